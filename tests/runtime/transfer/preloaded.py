"""What every worker process of a test needs and the server that forks them has already: loaded once, not in each.

Decides what that is; must never begin a thread or touch a device, neither of which survives a fork.
"""

from __future__ import annotations

import torch

from runtime.state.checksum import GranuleSums
from runtime.state.ranges import GRANULE_BYTES, whole
from tests.runtime.transfer import small_worker
from tests.runtime.worker import live_worker

PROCESSES = (small_worker, live_worker)


def _sum_once() -> None:
    memory = torch.zeros(GRANULE_BYTES, dtype=torch.uint8)
    sums, (span,) = GranuleSums(GRANULE_BYTES), whole(GRANULE_BYTES)
    sums.copy(memory, torch.zeros_like(memory), span)
    sums.add(memory, span)


_sum_once()
