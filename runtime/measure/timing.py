"""How long a call takes, on the device too.

Decides when a call has begun and ended; must never know what is called.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def timed(call: Callable[[], object]) -> float:
    """Seconds."""
    _finish()
    begun_s = time.perf_counter()
    call()
    _finish()
    return time.perf_counter() - begun_s


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
