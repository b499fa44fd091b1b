"""Emulated workers by the hundred, in one thread of one process.

Decides which of them are there and what they cost; must never know what a worker does. Whoever runs it calls `turn`
again and again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import count

import numpy as np
import zmq

from bench.live_users import Users
from bench.live_worker import Measured, Worker
from runtime.transfer.messages import AttemptId
from scheduler.cluster import GpuId
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms

_SOCKETS_BESIDE = 64  # of ZeroMQ's own and of whoever shares the context


class Timers:
    """What is to be done when."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[[float], None]]] = []
        self._serial = count()

    def at(self, when_s: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._heap, (when_s, next(self._serial), do))

    @property
    def next_s(self) -> float:
        return self._heap[0][0] if self._heap else float("inf")

    def run(self, now_s: float) -> None:
        """What is due is told the time at which it was."""
        while self._heap and self._heap[0][0] <= now_s:
            when_s, _, do = heapq.heappop(self._heap)
            do(when_s)


class Swarm:
    """All workers of one fleet. `clock` is monotonic seconds, the same for all."""

    def __init__(self, fleet: Fleet, controller: str, users: Users, clock: Callable[[], float]) -> None:
        self.fleet, self.controller, self.users, self.clock = fleet, controller, users, clock
        self.timers, self.measured = Timers(), Measured()
        self.receiving: dict[AttemptId, Worker] = {}  # who waits for a state
        self.late_s: list[float] = []  # by how much timers were late: this process was busy
        self.paid: list[tuple[str, float, float | None]] = []  # GPU type, on, off
        self.profile_index = {name: index for index, name in enumerate(fleet.profiles)}
        self.latency_s = lru_cache(maxsize=1 << 16)(self._latency_s)
        self._gpus = all_off(fleet).gpus
        self._on: dict[str, int] = {}  # row of `paid`
        self._workers: dict[str, Worker] = {}
        self._incarnation = 0
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.context.set(zmq.MAX_SOCKETS, len(self._gpus) + _SOCKETS_BESIDE)
        self.poller = zmq.Poller()
        self._hearing: dict[zmq.Socket[bytes], Callable[[float], None]] = {}

    @property
    def ready(self) -> int:
        """Workers that are there."""
        return len(self._workers)

    def listen(self, socket: zmq.Socket[bytes], hear: Callable[[float], None]) -> None:
        """To somebody else's socket, too."""
        self.poller.register(socket, zmq.POLLIN)
        self._hearing[socket] = hear

    def switch(self, name: str, *, on: bool) -> None:
        """As a provider does; a worker is there once its GPU has started up, and paid from now on."""
        now_s, gpu = self.clock(), self._gpus[GpuId(name)]
        if on and name not in self._on:
            self._on[name] = len(self.paid)
            self.paid.append((gpu.gpu_type, now_s, None))
            self.timers.at(now_s + self.fleet.gpu_types[gpu.gpu_type].startup_s, partial(self._begin, name))
        elif not on and name in self._on:
            gpu_type, on_s, _ = self.paid[self._on[name]]
            self.paid[self._on.pop(name)] = (gpu_type, on_s, now_s)
            worker = self._workers.pop(name, None)
            if worker is not None:
                self.poller.unregister(worker.socket)
                del self._hearing[worker.socket]
                worker.stop(now_s)

    def dollars(self, since_s: float, until_s: float) -> float:
        """What all GPUs cost in that time."""
        seconds = (
            (gpu_type, min(until_s, off_s or until_s) - max(since_s, on_s)) for gpu_type, on_s, off_s in self.paid
        )
        return sum(self.fleet.gpu_types[name].price_per_hour * max(0.0, each) / 3600 for name, each in seconds)

    def left(self, session_id: str, worker: Worker, now_s: float) -> None:
        """A worker holds nothing of it any more; another may."""
        if not any(other.holds(session_id) for other in self._workers.values() if other is not worker):
            self.users.is_now(session_id, "away", self.users.by_id[session_id].ownership, now_s)

    def turn(self, until_s: float) -> None:
        """Hear and do what is due, and wait for more at most until then."""
        wait_s = min(until_s, self.timers.next_s) - self.clock()
        for socket, _ in self.poller.poll(max(0, round(wait_s * 1000))):
            hear = self._hearing.get(socket)
            if hear is not None:
                hear(self.clock())
        now_s = self.clock()
        if self.timers.next_s <= now_s:
            self.late_s.append(now_s - self.timers.next_s)
            self.timers.run(now_s)

    def close(self) -> None:
        self.context.destroy(linger=0)

    def _begin(self, name: str, now_s: float) -> None:
        if name not in self._on or name in self._workers:
            return
        self._incarnation += 1
        worker = Worker(self, self._gpus[GpuId(name)], self._incarnation, now_s)
        self._workers[name] = worker
        self.listen(worker.socket, worker.hear)

    def _latency_s(self, gpu_type: str, counts: tuple[int, ...]) -> float:
        return float(chunk_latency_ms(self.fleet, gpu_type, np.array([counts]))[0]) / 1000
