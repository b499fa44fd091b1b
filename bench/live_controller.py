"""A controller in a process of its own, as `epochal controller` runs it, that is measured.

Decides what is noted of it; must never change what it does. GPUs are switched through a pipe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from bench.memory import peak_mib
from runtime.controller.controller import ControllerSettings, Happening
from runtime.controller.process.config import ControllerConfig
from runtime.controller.process.providing import Gone, Providing
from runtime.controller.process.run import ControllerLoop
from runtime.controller.sessions import Admission
from runtime.controller.step import Step, Switch
from runtime.worker.messages import Open, Resume, Suspend
from scheduler.fleet import Fleet

STOP, MARK = "stop", "mark"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSpent:
    """What it took, from the mark until it was stopped."""

    seconds: float
    cpu_s: float
    peak_mib: float
    turns: int
    transactions: int
    records: int
    steps_s: list[float] = field(repr=False)  # of turns that had something to decide
    said: list[tuple[str, str, float]] = field(repr=False)  # kind of order, session, when it was decided


class _Pipe:
    """Whoever has the workers hears what is to be on; they say goodbye by themselves."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def begin(self, _workers: Mapping[str, int], /) -> list[Gone]:
        return []

    def switch(self, switch: Switch) -> None:
        self._pipe.send(switch)

    def said_hello(self, worker: str, incarnation: int) -> None:
        """It is noticed there."""

    def happened(self, _workers: Mapping[str, int], /) -> list[Gone]:
        return []

    def news(self) -> list[str]:
        return []

    def end(self) -> None:
        """Workers end with the benchmark."""

    def close(self) -> None:
        """The pipe is the benchmark's."""


@dataclass(slots=True)
class _Notes:
    transactions: int = 0
    records: int = 0
    steps_s: list[float] = field(default_factory=list)
    said: list[tuple[str, str, float]] = field(default_factory=list)
    decides_s: float = 0.0


class _Loop(ControllerLoop):
    """Notes what is written and said."""

    def __init__(self, config: ControllerConfig, providing: Providing) -> None:
        self.notes = _Notes()
        super().__init__(config, providing, say=lambda line: print(line, file=sys.stderr))

    def _decided(self, happenings: Sequence[Happening], now_s: float) -> bool:
        self.notes.decides_s = now_s
        written = super()._decided(happenings, now_s)
        self.notes.steps_s.append(time.monotonic() - now_s)
        return written

    def _write(self, steps: Sequence[Step]) -> bool:
        count = sum(len(step.records) for step in steps)
        self.notes.transactions += bool(count)
        self.notes.records += count
        return super()._write(steps)

    def _say(self, steps: Sequence[Step]) -> None:
        super()._say(steps)
        orders = [word.body for step in steps for word in step.words]
        told = (order for order in orders if isinstance(order, Open | Resume | Suspend))
        self.notes.said += ((type(order).__name__, order.session_id, self.notes.decides_s) for order in told)


def serve(pipe: Connection, fleet: Fleet, folder: Path, admission: Admission) -> None:
    """The main function of the process: tells its addresses, and after `STOP` what it has spent since `MARK`."""
    nowhere = "tcp://127.0.0.1:0"
    config = ControllerConfig(
        fleet=fleet,
        journal=folder / "journal.sqlite",
        workers=nowhere,
        gateways=nowhere,
        settings=ControllerSettings(admission=admission),
    )
    loop = _Loop(config, _Pipe(pipe))
    pipe.send(loop.addresses)
    begun_s = begun_cpu_s = 0.0
    turns = 0
    try:
        while True:
            loop.turn()
            turns += 1
            if not pipe.poll():
                continue
            if pipe.recv() == STOP:
                break
            loop.notes = _Notes()
            begun_s, begun_cpu_s, turns = time.monotonic(), time.process_time(), 0
        spent = ControllerSpent(
            seconds=time.monotonic() - begun_s,
            cpu_s=time.process_time() - begun_cpu_s,
            peak_mib=peak_mib(),
            turns=turns,
            transactions=loop.notes.transactions,
            records=loop.notes.records,
            steps_s=loop.notes.steps_s,
            said=loop.notes.said,
        )
        pipe.send(spent)
    finally:
        loop.close()
