"""What goes wrong in a run: GPUs that are lost for a while, GPUs that are slow for a while.

Decides whom a fault strikes; must never know what the policy makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import assert_never

from scheduler.cluster import GpuId
from scheduler.simulation.instants import Agenda, to_us
from scheduler.simulation.power import Power
from scheduler.simulation.rounds import Rounds
from scheduler.simulation.settings import Failure, Straggler


@dataclass(frozen=True, slots=True)
class _Slow:
    """A GPU straggles until it recovers, or until it is struck again."""

    gpu_index: int
    number: int


class Faults:
    """Faults to come, and stragglers to recover."""

    def __init__(
        self, faults: tuple[Failure | Straggler, ...], power: Power, rounds: Rounds, gpu_index: dict[GpuId, int]
    ) -> None:
        self._power, self._rounds, self._gpu_index = power, rounds, gpu_index
        self._strikes: Agenda[Failure | Straggler] = Agenda()
        for fault in faults:
            self._strikes.add(to_us(fault.at_s), fault)
        self._recoveries: Agenda[_Slow] = Agenda()
        self._slow: dict[int, _Slow] = {}
        self._struck = 0

    @property
    def next_us(self) -> int:
        return min(self._strikes.next_us, self._recoveries.next_us)

    def recover_due(self, now_us: int) -> None:
        for slow in self._recoveries.due(now_us):
            if self._slow.get(slow.gpu_index) == slow:
                del self._slow[slow.gpu_index]
                self._rounds.slow_down(slow.gpu_index, 1.0, now_us)

    def strike_due(self, now_us: int) -> Iterator[GpuId]:
        """GPUs that are lost, once they are."""
        for fault in self._strikes.due(now_us):
            on = self._power.on()
            if not on:
                continue
            gpu = on[fault.draw % len(on)]
            match fault:
                case Failure():
                    self._power.lose(gpu, to_us(fault.repair_s), now_us)
                    yield gpu
                case Straggler():
                    self._slow_down(self._gpu_index[gpu], fault, now_us)
                case _:
                    assert_never(fault)

    def _slow_down(self, gpu_index: int, fault: Straggler, now_us: int) -> None:
        slow = _Slow(gpu_index, self._struck)
        self._struck += 1
        self._slow[gpu_index] = slow
        self._rounds.slow_down(gpu_index, fault.factor, now_us)
        self._recoveries.add(now_us + to_us(fault.duration_s), slow, order=gpu_index)
