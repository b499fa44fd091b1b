"""The gloo backend: pairs for workers without CUDA.

Decides how a group is made, waited for and closed; must never know what travels. gloo takes no notice of an abort: a
wait ends when the peer is lost or after the patience of the connection, and closes the pair in either case.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import Store
from torch.distributed import ProcessGroupGloo

from runtime.transfer.pair_transport import PairWay
from runtime.transfer.pairs import PAIRS_MAX, RENDEZVOUS_S, Pairs, first_line
from runtime.transfer.transport import TransferError
from runtime.transfer.wire import Patience


class GlooBackend:
    """gloo moves host memory."""

    device = torch.device("cpu")

    def wait(self, work: Any, patience: Patience, end_s: float) -> None:
        left_s = max(0.001, end_s - patience.clock())
        try:
            work.wait(timedelta(seconds=left_s))
        except RuntimeError as error:
            late = patience.clock() >= end_s
            raise TransferError("late" if late else "lost", first_line(error)) from None


def gloo_way(
    me: str,
    store_address: tuple[str, int],
    *,
    host: str = "127.0.0.1",
    pairs_max: int = PAIRS_MAX,
    rendezvous_s: float = RENDEZVOUS_S,
) -> PairWay:
    """The pairs of one worker; they listen on `host`."""

    def make(store: Store, rank: int, timeout: timedelta) -> Any:
        # Where it listens can be said nowhere else, and torch's stubs lack it.
        options = ProcessGroupGloo._Options()  # type: ignore[attr-defined]
        options._devices = [ProcessGroupGloo.create_device(hostname=host)]
        options._timeout = timeout
        return ProcessGroupGloo(store, rank, 2, options)

    pairs = Pairs(me, store_address, make, _close, pairs_max=pairs_max, rendezvous_s=rendezvous_s)
    return PairWay(pairs, GlooBackend())


def _close(group: Any) -> None:
    group.shutdown()
