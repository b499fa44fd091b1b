"""The NCCL backend: pairs for workers with CUDA. Written after its sources and probes; not run and not measured yet.

Decides how a group is made, waited for and given up, so that one death does not become two; must never know what
travels.

NCCL left alone kills a process whose peer has died. So its watchdog neither aborts nor exits (the environment of
`runtime.transfer.quiet` says so), a wait polls with a deadline of ours, an abort runs in a thread that may hang without
anybody waiting for it, and whoever decides falls back on TCP.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import torch
from torch._C._distributed_c10d import Store

from runtime.transfer.pair_transport import PairWay
from runtime.transfer.pairs import PAIRS_MAX, RENDEZVOUS_S, Pairs
from runtime.transfer.transport import TransferError
from runtime.transfer.wire import Patience

_POLL_S = 0.0005
_ABORT_S = 10.0  # for an abort that hangs, after which it is left alone
_TIMEOUT = timedelta(hours=1)  # the watchdog's, never reached: deadlines are ours


class NcclBackend:
    """NCCL moves device memory, on a stream of its own that begins after the work given to the current one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self, work: Any, patience: Patience, end_s: float) -> None:
        pause = threading.Event()
        while not work.is_completed():
            patience.check()
            if patience.clock() >= end_s:
                raise TransferError("late", "NCCL does not finish")
            pause.wait(_POLL_S)
        failure = work.exception()
        if failure is not None:
            raise TransferError("lost", "NCCL has lost its peer")
        work.wait()  # of this thread's stream, not of the thread: who reads the part on it reads all of it


def nccl_way(
    me: str,
    store_address: tuple[str, int],
    device: torch.device,
    *,
    pairs_max: int = PAIRS_MAX,
    rendezvous_s: float = RENDEZVOUS_S,
) -> PairWay:
    """The pairs of one worker on one device."""

    def make(store: Store, rank: int, timeout: timedelta) -> Any:
        from torch.distributed import ProcessGroupNCCL  # only builds with CUDA have it

        torch.cuda.set_device(device)  # of the thread in which the pair is made
        options = ProcessGroupNCCL.Options()
        options._timeout = _TIMEOUT
        store.set_timeout(timeout)
        group = ProcessGroupNCCL(store, rank, 2, options)
        _warm(group, rank, device, timeout)
        return group

    pairs = Pairs(me, store_address, make, _give_up, pairs_max=pairs_max, rendezvous_s=rendezvous_s)
    return PairWay(pairs, NcclBackend(device))


def _warm(group: Any, rank: int, device: torch.device, timeout: timedelta) -> None:
    """The first send makes the communicator, takes long and knows no deadline: here nobody's block waits for it."""
    byte = torch.zeros(1, dtype=torch.uint8, device=device)
    work = group.send([byte], 1, 0) if rank == 0 else group.recv([byte], 0, 0)
    end_s = time.monotonic() + timeout.total_seconds()
    while not work.is_completed():
        if time.monotonic() >= end_s:
            raise RuntimeError("NCCL does not make a communicator")
        time.sleep(_POLL_S)  # waiting for it would know no deadline


def _give_up(group: Any) -> None:
    thread = threading.Thread(target=group.abort, name="nccl abort", daemon=True)
    thread.start()
    thread.join(_ABORT_S)
