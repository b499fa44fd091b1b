"""Which workers are to be there, as plans want it.

Decides who is started, emptied and stopped; must never know how that is done. A worker that holds anything is never
stopped: its host memory ends with it.

An operator may withhold a GPU: it is emptied and switched off whatever plans want, and nobody uses it until it is given
back. Where a plan would rather keep it, another one of its type is started in its place.

Where nobody starts workers, none is off: a GPU without a worker is lost until one joins, so that no plan counts on it,
and one that is not needed is emptied and stays so, at the cost of a GPU that is on, until somebody stops it.
"""

from __future__ import annotations

from collections.abc import Mapping

from runtime.controller.books import Books
from runtime.journal.records import GivenBack, Withheld
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
        for name in self._books.truth.withheld:
            if self._books.is_gpu(name) and self._books.cluster.gpus[GpuId(name)].status == "off":
                self._books.tell(events.GpuLost(gpu_id=GpuId(name)), now_s)
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
        aims = self._without_withheld(aims)
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
            if worker in self._books.truth.withheld:
                self._books.tell(events.GpuDraining(gpu_id=GpuId(worker)), now_s)

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
            if not self._starts and status != "draining" and worker not in self._books.truth.withheld:
                self._books.switch(worker, on=True)

    def available(self, worker: str, now_s: float) -> None:
        """A lost one can be started again."""
        is_lost = self._books.is_gpu(worker) and self._books.cluster.gpus[GpuId(worker)].status == "lost"
        if is_lost and worker not in self._books.truth.withheld:
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
                if gpu.status == "lost" and name not in self._books.truth.withheld:
                    self._books.switch(name, on=True)

    def withhold(self, name: GpuId, now_s: float) -> None:
        """It is to be empty and off until it is given back."""
        books = self._books
        if name in books.truth.withheld:
            return
        books.write(Withheld(worker=name))
        match books.cluster.gpus[name].status:
            case "ready":
                books.tell(events.GpuDraining(gpu_id=name), now_s)
            case "starting":
                self._withdraw(books.cluster.gpus[name], now_s)
            case "off":
                books.tell(events.GpuLost(gpu_id=name), now_s)
            case "draining" | "lost":
                pass

    def give_back(self, name: GpuId, now_s: float) -> None:
        """Plans may use it again; that it can be started is found out by trying."""
        books = self._books
        if name not in books.truth.withheld:
            return
        books.write(GivenBack(worker=name))
        match books.cluster.gpus[name].status:
            case "draining":
                books.tell(events.GpuReady(gpu_id=name), now_s)
            case "lost" if self._starts:
                books.tell(events.GpuStopped(gpu_id=name), now_s)
            case _:
                pass
        if not self._starts:
            books.switch(name, on=True)

    def epoch_over(self, now_s: float) -> None:
        """Withheld ones that are empty are switched off."""
        for name in self._books.truth.withheld:
            if self._books.is_gpu(name):
                gpu = self._books.cluster.gpus[GpuId(name)]
                if gpu.status == "draining" and not self._holds(gpu.gpu_id):
                    self._withdraw(gpu, now_s)

    def _withdraw(self, gpu: Gpu, now_s: float) -> None:
        """Off for plans and for whoever starts workers; where nobody does, it is paid for until somebody stops it."""
        if self._starts:
            if gpu.gpu_id not in self._books.truth.workers:  # else it is paid for until it has left
                self._books.tally.gpu_off(gpu.gpu_id, now_s)
            self._books.tell(events.GpuLost(gpu_id=gpu.gpu_id), now_s)
        self._books.switch(gpu.gpu_id, on=False)

    def _without_withheld(self, aims: Mapping[GpuId, GpuAim]) -> Mapping[GpuId, GpuAim]:
        """Others are started in place of those that a plan would keep."""
        withheld, gpus = self._books.truth.withheld, self._books.cluster.gpus
        left = {name: aim for name, aim in aims.items() if name not in withheld}
        for name in sorted(aims.keys() - left.keys()):
            if aims[name] == "keep" and gpus[name].status == "draining":
                others = (other for other, gpu in gpus.items() if gpu.gpu_type == gpus[name].gpu_type)
                spare = next((o for o in others if gpus[o].status == "off" and left.get(o, "off") == "off"), None)
                if spare is not None:
                    left[spare] = "start"
        return left

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
        """A session of its own, one that comes or goes, one that it is still to forget, or an orphan."""
        books = self._books
        takes_part = any(gpu_id in (progress.source, progress.target) for progress in books.handovers.under_way)
        has_orphans = any(worker == gpu_id for worker, _ in books.orphans)
        return bool(books.owners.of(gpu_id)) or takes_part or has_orphans or books.orders.has(gpu_id)

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
