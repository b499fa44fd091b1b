"""Plans made in a process of their own, which a hang or a crash can cost no more than one plan.

Decides when that process is given up, killed and begun anew; must never know what a plan says.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision
from scheduler.planner import Planner
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget

GRACE_S = 1.0  # beyond its budget, after which a plan is given up and its process killed
STARTUP_S = 60.0  # for libraries and compiled kernels
_EXIT_S = 2.0


class PlanningProcess:
    """One question at a time. Used from one thread; `fileno` is readable when there is an answer."""

    def __init__(self, fleet: Fleet, settings: PlannerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._fleet, self._settings, self._clock = fleet, settings, clock
        self._context = multiprocessing.get_context("spawn")  # a fork would take sockets and locks with it
        self.given_up = 0  # plans that did not come in time
        self._start()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_plan_for, args=(theirs, self._fleet, self._settings), name="planner", daemon=True
        )
        process.start()
        theirs.close()
        self._pipe: Connection = ours
        self._process = process
        self._end_s: float | None = None  # until when an answer is waited for
        self._ready = False
        self._begun_s = self._clock()

    def fileno(self) -> int:
        return self._pipe.fileno()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def is_free(self) -> bool:
        """A question may be asked."""
        return self._ready and self._end_s is None

    def ask(self, snapshot: Snapshot, now_s: float, *, seconds: float, early: bool) -> None:
        assert self.is_free, "one question at a time"
        plain = replace(
            snapshot, gpus=dict(snapshot.gpus), sessions=dict(snapshot.sessions), moves=dict(snapshot.moves)
        )
        self._end_s = self._clock() + seconds + GRACE_S
        with contextlib.suppress(OSError):  # it is gone: whoever asks for the answer finds that out
            self._pipe.send((plain, now_s, seconds, early))

    def answer(self) -> Decision | None:
        """What has come; None if nothing has, or if the process was given up."""
        end_s = self._end_s if self._end_s is not None else self._begun_s + STARTUP_S
        try:
            if self._pipe.poll():
                found: Decision | str = self._pipe.recv()
                return self._heard(found)
        except (EOFError, OSError):
            self._replace()
            return None
        if (self._end_s is not None or not self._ready) and self._clock() >= end_s:
            self._replace()
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.join(_EXIT_S)
        self._pipe.close()

    def _heard(self, found: Decision | str) -> Decision | None:
        if isinstance(found, str):  # it is ready
            self._ready = True
            return None
        self._end_s = None
        return found

    def _replace(self) -> None:
        self.given_up += 1
        self.close()
        self._start()


def _plan_for(pipe: Connection, fleet: Fleet, settings: PlannerSettings) -> None:
    """The main function of the process; it ends with whoever asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from runtime.solve_child import warm_up

    planner = Planner(fleet, settings)
    warm_up()
    pipe.send("ready")
    while True:
        try:
            snapshot, now_s, seconds, early = pipe.recv()
        except EOFError:
            return
        budget = Budget(seconds=seconds, clock=time.monotonic, early=early)
        decision = planner.step(snapshot, now_s, budget)
        told = replace(decision.plan, seats=dict(decision.plan.seats))
        pipe.send(replace(decision, plan=told, scale_in_wanted=dict(decision.scale_in_wanted)))
