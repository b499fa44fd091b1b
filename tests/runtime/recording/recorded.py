"""A controller without workers whose sessions come and go, recorded, with an oracle of who was active when.

Decides when it is stopped or killed, and that the next one follows; must never read the log.
"""

from __future__ import annotations

from pathlib import Path

from runtime.controller.controller import Controller, EpochOver, Happening
from runtime.gateway import messages as gate
from runtime.journal.records import Began
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from runtime.recording.events import Event, to_line
from runtime.recording.recorder import Recorder
from runtime.worker.messages import Text
from scheduler.planner_settings import PlannerSettings
from tests.builders import a_fleet

FLEET = a_fleet()
PLANNER = PlannerSettings(balance=False, lateness_weights={1: 3})
TOKEN = bytes(32)
WALL_S = 1.7e9  # the wall clock when it begins

Period = tuple[str, float, float]  # session, from, until


class RecordedController:
    """Times are whole microseconds, of a clock that is not that of any controller."""

    def __init__(self) -> None:
        self.now_us, self.run_us = 0, 0
        self.log = b""
        self.runs: list[list[Period]] = []  # of the runs that are over
        self.periods: list[Period] = []
        self.active: dict[str, int | None] = {}  # since when; None: it is idle
        self.created = 0
        self.truth = Truth()
        self._begin()

    @property
    def now_s(self) -> float:
        return self.now_us / 1e6

    def create(self) -> None:
        name = f"s{self.created}"
        self.created += 1
        self.active[name] = self.now_us
        text = Text(profile="a", seed=1, prompt="a secret wish")
        self._happens(gate.Create(session_id=name, tenant="acme", text=text, token_sha256=TOKEN))

    def want(self, name: str, *, active: bool) -> None:
        since_us = self.active[name]
        if active and since_us is None:
            self.active[name] = self.now_us
        elif not active:
            self._idles(name)
        self._happens(gate.Want(session_id=name, active=active))

    def end(self, name: str) -> None:
        self._idles(name)
        del self.active[name]
        self._happens(gate.End(session_id=name))

    def prompt(self, name: str, serial: int) -> None:
        self._happens(gate.Prompt(session_id=name, prompt="another secret", serial=serial))

    def control(self, name: str, count: int) -> None:
        self._happens(gate.Controlled(counts=((name, count), ("a stranger", 1))))

    def kill(self) -> None:
        """The next one goes on with the same run."""
        self._begin()

    def stop(self) -> None:
        """The next one begins a run, in which everybody is active until the gateway says otherwise."""
        self._write(self.recorder.ended(self.now_s))
        self._over()
        self.run_us = self.now_us
        self.active = dict.fromkeys(self.active, self.now_us)
        self._begin()

    def finish(self, path: Path) -> list[list[Period]]:
        """Stop for good; what was active in each run."""
        self._write(self.recorder.ended(self.now_s))
        self._over()
        path.write_bytes(self.log)
        return self.runs

    def _over(self) -> None:
        for name in self.active:
            self._idles(name)
        self.runs.append(sorted(self.periods))
        self.periods = []

    def _idles(self, name: str) -> None:
        since_us = self.active[name]
        if since_us is not None and since_us < self.now_us:
            self.periods.append((name, (since_us - self.run_us) / 1e6, (self.now_us - self.run_us) / 1e6))
        self.active[name] = None

    def _begin(self) -> None:
        self.truth = after(self.truth, [Began(controller_epoch=self.truth.controller_epoch + 1)])
        self.recorder = Recorder(FLEET, self.truth, self.now_s)
        self.controller, begun = Controller.begin(FLEET, self.truth, self.now_s)
        self._write([self.recorder.began(PLANNER, "1.2.3", WALL_S + self.now_s)])
        self._write(self.recorder.begun(begun, self.now_s))

    def _happens(self, happening: Happening) -> None:
        for each in (happening, EpochOver()):
            step = self.controller.handle(each, self.now_s)
            self.truth = after(self.truth, step.records)
            self._write(self.recorder.heard(each, step, self.now_s))

    def _write(self, events: list[Event]) -> None:
        self.log += b"".join(map(to_line, events))


def joined(periods: list[Period]) -> list[Period]:
    """Periods of one session that touch are one."""
    found: list[Period] = []
    for name, start_s, end_s in sorted(periods):
        if found and found[-1][0] == name and found[-1][2] == start_s:
            found[-1] = (name, found[-1][1], end_s)
        else:
            found.append((name, start_s, end_s))
    return found
