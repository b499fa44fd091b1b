"""Plans made and explained in a process of their own, which a hang or a crash can cost no more than one of them.

Decides when that process is given up, killed and begun anew; must never know what a plan says.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection

import msgspec

from scheduler.cluster import SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget

GRACE_S = 1.0  # beyond its budget, after which a plan is given up and its process killed
STARTUP_S = 300.0  # for libraries and kernels, which are compiled the first time: a minute, on two busy cores
SLOW_S = 5.0  # after which people are told what is waited for
_EXIT_S = 2.0
_BETWEEN = {"leave": False, "balance": False, "move": False, "smooth": False}  # tiers of the planner, as it has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A plan, and what it was made for."""

    decision: Decision
    snapshot: Snapshot
    now_s: float
    early: bool  # between two epochs
    least_per_hour: float | None = None  # dollars that GPUs cost at least for whoever wants chunks; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Why a session moves or stays in a plan, as JSON; None: that was given up."""

    version: int
    session_id: SessionId
    body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    snapshot: Snapshot
    now_s: float
    seconds: float
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explain:
    made: Made
    session_id: SessionId
    seconds: float


_Answer = tuple[Decision, float | None] | bytes | str  # a plan and the least cost; an explanation; that it is ready


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
        self._asked: _Plan | _Explain | None = None
        self._end_s: float | None = None  # until when an answer is waited for
        self._ready = self._is_slow = False
        self._begun_s = self._clock()

    def news(self) -> list[str]:
        """For people: that the process takes long to begin, and that it has begun at last. Once each."""
        took_s = self._clock() - self._begun_s
        if not self._ready and not self._is_slow and took_s >= SLOW_S:
            self._is_slow = True
            return ["plans: not yet; kernels are compiled when they are used for the first time"]
        if self._ready and self._is_slow:
            self._is_slow = False
            return [f"plans: from now on, after {took_s:.0f} s"]
        return []

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
        self._send(_Plan(snapshot=plain, now_s=now_s, seconds=seconds, early=early))

    def explain(self, made: Made, session_id: SessionId, *, seconds: float) -> None:
        """Of a session of the plan's snapshot."""
        assert self.is_free, "one question at a time"
        self._send(_Explain(made=made, session_id=session_id, seconds=seconds))

    def _send(self, question: _Plan | _Explain) -> None:
        self._asked, self._end_s = question, self._clock() + question.seconds + GRACE_S
        with contextlib.suppress(OSError):  # it is gone: whoever asks for the answer finds that out
            self._pipe.send(question)

    def answer(self) -> Made | Explained | None:
        """What has come; None if nothing has, or if a plan was given up with the process."""
        end_s = self._end_s if self._end_s is not None else self._begun_s + STARTUP_S
        try:
            if self._pipe.poll():
                found: _Answer = self._pipe.recv()
                return self._heard(found)
        except (EOFError, OSError):
            return self._replace()
        if (self._end_s is not None or not self._ready) and self._clock() >= end_s:
            return self._replace()
        return None

    def close(self) -> None:
        self._process.kill()
        self._process.join(_EXIT_S)
        self._pipe.close()

    def _heard(self, found: _Answer) -> Made | Explained | None:
        asked, self._asked, self._end_s = self._asked, None, None
        match asked, found:
            case _Plan(), (decision, least):
                return Made(
                    decision=decision,
                    snapshot=asked.snapshot,
                    now_s=asked.now_s,
                    early=asked.early,
                    least_per_hour=least,
                )
            case _Explain(), bytes():
                return _explained(asked, found)
            case _:
                assert asked is None, "it answers what it was asked"
                self._ready = True
                return None

    def _replace(self) -> Explained | None:
        """Whoever asked for an explanation hears that there will be none."""
        asked = self._asked
        self.close()
        self._start()
        if isinstance(asked, _Explain):
            return _explained(asked, None)
        self.given_up += 1
        return None


def _explained(asked: _Explain, body: bytes | None) -> Explained:
    return Explained(version=asked.made.decision.plan.version, session_id=asked.session_id, body=body)


def _plan_for(pipe: Connection, fleet: Fleet, settings: PlannerSettings) -> None:
    """The main function of the process; it ends with whoever asks, who does without solvers and begins sooner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from runtime.controller.process.least_cost import LeastCost
    from runtime.solve_child import warm_up
    from scheduler.gpu_ahead import wanted_now
    from scheduler.planner import Planner

    planner, least_cost = Planner(fleet, settings), LeastCost(fleet)
    warm_up()
    try:
        pipe.send("ready")
        while True:
            asked: _Plan | _Explain = pipe.recv()
            if isinstance(asked, _Explain):
                pipe.send(_explanation(asked, fleet, settings))
                continue
            budget = Budget(seconds=asked.seconds, clock=time.monotonic, early=asked.early)
            decision = planner.step(asked.snapshot, asked.now_s, budget)
            told = replace(decision.plan, seats=dict(decision.plan.seats))
            plain = replace(decision, plan=told, scale_in_wanted=dict(decision.scale_in_wanted))
            # An early plan is waited for, and of the demand of one epoch one figure is enough.
            pipe.send((plain, None if asked.early else least_cost.per_hour(wanted_now(asked.snapshot))))
    except (EOFError, BrokenPipeError):  # whoever asks is gone
        return


def _explanation(asked: _Explain, fleet: Fleet, settings: PlannerSettings) -> bytes:
    from scheduler.decision_json import DecisionRecord
    from scheduler.explain import explain

    made = asked.made
    used = settings.model_copy(update=_BETWEEN) if made.early else settings
    record = DecisionRecord(
        fleet=fleet, settings=used, snapshot=made.snapshot, now_s=made.now_s, decision=made.decision
    )
    found = explain(record, asked.session_id, Budget(seconds=asked.seconds, clock=time.monotonic))
    return msgspec.json.encode({"version": made.decision.plan.version} | asdict(found))
