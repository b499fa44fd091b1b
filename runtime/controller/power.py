"""Which workers are to be there, as plans want it.

Decides who is started, emptied and stopped; must never know how that is done. A worker that holds anything is never
stopped: its host memory ends with it.

Where nobody starts workers, none is off: a GPU without a worker is lost until one joins, so that no plan counts on it,
and one that is not needed is emptied and stays so, at the cost of a GPU that is on, until somebody stops it.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.controller.books import Books
from scheduler import events
from scheduler.cluster import Gpu, GpuId
from scheduler.plan import GpuAim

_ON = ("starting", "ready", "draining")


class Power:
    """GPUs are taken in the fleet's order wherever several change at once."""

    def __init__(self, books: Books, *, starts: bool) -> None:
        """`starts`: whether a worker that is switched on is started, and not only told to be wanted."""
        self._books, self._starts = books, starts

    def begin(self, now_s: float) -> None:
        """Who is there is ready, and of each pool as many are started as are always to be there."""
        for worker in self._books.truth.workers:
            self.joined(worker, now_s)
        for index, pool in enumerate(self._books.fleet.pools):
            mine = [gpu for gpu in self._books.cluster.gpus.values() if _pool_of(gpu) == index]
            on = sum(gpu.status in _ON for gpu in mine)
            off = [gpu for gpu in mine if gpu.status == "off"]
            if not self._starts:
                for gpu in off:
                    self._books.tell(events.GpuLost(gpu_id=gpu.gpu_id), now_s)
            for gpu in off[: max(0, pool.gpus_min - on)]:
                self._start(gpu, now_s)

    def follow(self, aims: Mapping[GpuId, GpuAim], now_s: float) -> None:
        """What a plan wants of GPUs, where it still applies."""
        for name, gpu in list(self._books.cluster.gpus.items()):
            match aims.get(name), gpu.status:
                case "start", "off":
                    self._start(gpu, now_s)
                case "keep", "draining":
                    self._books.tell(events.GpuReady(gpu_id=name), now_s)
                    if not self._starts:
                        self._books.switch(name, on=True)
                case "drain", "ready" if self._is_spare(gpu):
                    self._books.tell(events.GpuDraining(gpu_id=name), now_s)
                case "stop", "starting" | "ready" | "draining" if self._is_spare(gpu):
                    self._stop(gpu, now_s)
                case _:
                    pass

    def joined(self, worker: str, now_s: float) -> None:
        """It can be used; also one that was not expected, which costs as much."""
        if self._books.is_gpu(worker):
            self._books.tally.gpu_on(self._books.cluster.gpus[GpuId(worker)], now_s)
            self._books.tell(events.GpuReady(gpu_id=GpuId(worker)), now_s)

    def left(self, worker: str, now_s: float) -> None:
        """Unless it was to stop, it is lost until it can be started again; another may be starting in its place."""
        if self._books.is_gpu(worker) and self._books.cluster.gpus[GpuId(worker)].status == "starting":
            return
        self.gone(worker, now_s)

    def gone(self, worker: str, now_s: float) -> None:
        """As `left`, and none is starting there: one that was has ended before it joined."""
        self._books.tally.gpu_off(worker, now_s)
        if self._books.is_gpu(worker):
            status = self._books.cluster.gpus[GpuId(worker)].status
            if status in _ON:
                self._books.tell(events.GpuLost(gpu_id=GpuId(worker)), now_s)
            if not self._starts and status != "draining":
                self._books.switch(worker, on=True)

    def available(self, worker: str, now_s: float) -> None:
        """A lost one can be started again."""
        if self._books.is_gpu(worker) and self._books.cluster.gpus[GpuId(worker)].status == "lost":
            self._books.tell(events.GpuStopped(gpu_id=GpuId(worker)), now_s)

    def unavailable(self, worker: str, now_s: float) -> None:
        """No plan is to count on it until its worker is there."""
        if self._books.is_gpu(worker) and self._books.cluster.gpus[GpuId(worker)].status in ("off", "starting"):
            self._books.tally.gpu_off(worker, now_s)
            self._books.tell(events.GpuLost(gpu_id=GpuId(worker)), now_s)

    def call(self) -> None:
        """Somebody waits in vain: where nobody starts workers, those that are not there are asked for."""
        if not self._starts:
            for name, gpu in self._books.cluster.gpus.items():
                if gpu.status == "lost":
                    self._books.switch(name, on=True)

    def _start(self, gpu: Gpu, now_s: float) -> None:
        if not self._starts:
            self._books.switch(gpu.gpu_id, on=True)
            return
        ready_s = now_s + self._books.fleet.gpu_types[gpu.gpu_type].startup_s
        self._books.tally.gpu_on(gpu, now_s)
        self._books.tell(events.GpuStarting(gpu_id=gpu.gpu_id, ready_s=ready_s), now_s)
        self._books.switch(gpu.gpu_id, on=True)

    def _stop(self, gpu: Gpu, now_s: float) -> None:
        if self._holds(gpu.gpu_id):
            if gpu.status == "ready":
                self._books.tell(events.GpuDraining(gpu_id=gpu.gpu_id), now_s)
            return
        if not self._starts:
            if gpu.status == "ready":
                self._books.tell(events.GpuDraining(gpu_id=gpu.gpu_id), now_s)
            self._books.switch(gpu.gpu_id, on=False)
            return
        if gpu.gpu_id not in self._books.truth.workers:  # else it is paid for until it has left
            self._books.tally.gpu_off(gpu.gpu_id, now_s)
        self._books.tell(events.GpuStopped(gpu_id=gpu.gpu_id), now_s)
        self._books.switch(gpu.gpu_id, on=False)

    def _holds(self, gpu_id: GpuId) -> bool:
        """A session of its own, one that comes or goes, or one that it has not confirmed to have forgotten."""
        books = self._books
        takes_part = any(gpu_id in (progress.source, progress.target) for progress in books.handovers.under_way)
        return bool(books.owners.of(gpu_id)) or takes_part or books.orders.has(gpu_id)

    def _is_spare(self, gpu: Gpu) -> bool:
        """As many others of its pool are ready as are always to be there."""
        others = [
            other
            for other in self._books.cluster.gpus.values()
            if other.gpu_id != gpu.gpu_id and _pool_of(other) == _pool_of(gpu) and other.status == "ready"
        ]
        return len(others) >= self._books.fleet.pools[_pool_of(gpu)].gpus_min


def _pool_of(gpu: Gpu) -> int:
    return int(gpu.node.partition("/")[0])
