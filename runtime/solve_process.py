"""A solver in a process of its own, which a hang, a crash or a lie can cost no more than one fallback.

Decides when that process is started, given up and killed, and whether its answer may be used; must never know how
it solves.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from runtime.solve_messages import PREFIX, Ask, Message, MessageError, Ready, Reply, decode, encode, frame_bytes
from solvers.placement.check import evaluate, violations
from solvers.placement.problem import Problem
from solvers.placement.solution import Answer, Bounds, Placement, StageReport, Value, better

MEMORY_MIB = 8192  # address space of the process, libraries included
RESERVE_S = 0.02  # of the deadline, for the way there and back
RESERVE_SHARE = 0.05
READ_BYTES = 1 << 20
EXIT_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """What to do, and why the process's answer was not used (None: it was)."""

    answer: Answer
    fallback: str | None


class SolveProcess:
    """Keeps one process warm between questions; a new one is started when the old one is lost.

    `solver` is "portfolio", the name of a registered solver, or `module:factory`.
    """

    def __init__(
        self, solver: str = "portfolio", *, memory_mib: int = MEMORY_MIB, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._solver, self._memory_mib, self._clock = solver, memory_mib, clock
        self._serial = 0
        self._child: _Child | None = None
        self._start()

    def __enter__(self) -> SolveProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the process; None if it could not be started."""
        return self._child.pid if self._child is not None else None

    def wait_ready(self, seconds: float) -> bool:
        """Whether the process has loaded its solver; asks for no more than `seconds` of patience."""
        try:
            self._child_that_is_ready(self._clock() + seconds)
        except _LostError:
            return False
        return True

    def solve(
        self, problem: Problem, fallback: Placement, *, seconds: float, seed: int = 0, gap: float = 0.001
    ) -> Solved:
        """The process's answer if it is there in time, allowed and no worse than `fallback`, which must be allowed."""
        started_s = self._clock()
        try:
            reply = self._asked(problem, fallback, started_s + seconds, seed, gap)
        except _LostError as lost:
            self._replace_child()
            return _fall_back(problem, fallback, str(lost))
        if reply.placement is None:
            return _fall_back(problem, fallback, f"no answer: {reply.end_reason}")
        wrong = _what_is_wrong(problem, fallback, reply.placement, reply.bounds)
        if wrong is not None:
            return _fall_back(problem, fallback, wrong)
        return Solved(answer=_answer(problem, reply.placement, reply, self._clock() - started_s), fallback=None)

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _asked(self, problem: Problem, hint: Placement, end_s: float, seed: int, gap: float) -> Reply:
        child = self._child_that_is_ready(end_s)
        self._serial += 1
        left_s = end_s - self._clock()
        seconds = max(0.0, left_s * (1 - RESERVE_SHARE) - RESERVE_S)
        ask = Ask(serial=self._serial, problem=problem, hint=hint, seconds=seconds, seed=seed, gap=gap)
        child.send(encode(ask), end_s)
        reply = child.receive(Reply, end_s)
        if reply.serial != self._serial:
            raise _LostError(f"answered question {reply.serial} instead of {self._serial}")
        return reply

    def _child_that_is_ready(self, end_s: float) -> _Child:
        if self._child is None:
            self._start()
        child = self._child
        assert child is not None
        if not child.ready:
            child.receive(Ready, end_s, late="not ready in time")
            child.ready = True
        return child

    def _start(self) -> None:
        self._child = _Child(self._solver, self._memory_mib, self._clock)

    def _replace_child(self) -> None:
        """A new one starts to load at once, so that it is warm by the next question."""
        if self._child is not None and self._child.loading:
            return  # it has done nothing wrong yet but load slowly
        self.close()
        self._start()


class _LostError(Exception):
    """The process can no longer be relied on."""


class _Child:
    """One process and its pipes."""

    def __init__(self, solver: str, memory_mib: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        child_reads, self._to_child = os.pipe()
        self._from_child, child_writes = os.pipe()
        paths = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "runtime.solve_child", solver, str(child_reads), str(child_writes), str(memory_mib)],
            pass_fds=(child_reads, child_writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what libraries print there is nobody's answer
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # whatever it starts is killed with it
        )
        os.close(child_reads)
        os.close(child_writes)
        os.set_blocking(self._to_child, False)
        self._unread = bytearray()
        self.ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def loading(self) -> bool:
        """Whether it lives and has not said yet that it is ready."""
        return not self.ready and self._process.poll() is None

    def send(self, frame: bytes, end_s: float) -> None:
        """All of it, unless the other side stops reading."""
        rest = memoryview(frame)
        while rest:
            _, writable, _ = select.select([], [self._to_child], [], max(0.0, end_s - self._clock()))
            if not writable:
                raise _LostError("late: it did not read the question")
            try:
                rest = rest[os.write(self._to_child, rest) :]
            except BrokenPipeError:
                raise _LostError(self._how_it_ended()) from None

    def receive(self, kind: type[Message], end_s: float, *, late: str = "late") -> Message:
        """The next message, which must be of that kind."""
        try:
            prefix = self._take(PREFIX.size, end_s, late)
            return decode(kind, prefix, self._take(frame_bytes(prefix), end_s, late))
        except MessageError as error:
            raise _LostError(f"not understood: {error}") from error

    def kill(self) -> None:
        """At once, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to_child)
        os.close(self._from_child)

    def _take(self, count: int, end_s: float, late: str) -> bytes:
        while len(self._unread) < count:
            readable, _, _ = select.select([self._from_child], [], [], max(0.0, end_s - self._clock()))
            if not readable:
                raise _LostError(late)
            data = os.read(self._from_child, READ_BYTES)
            if not data:
                raise _LostError(self._how_it_ended())
            self._unread += data
        taken = bytes(self._unread[:count])
        del self._unread[:count]
        return taken

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            return "crashed: closed its pipe"
        return f"crashed: {signal.Signals(-code).name if code < 0 else f'exit status {code}'}"


def _what_is_wrong(problem: Problem, fallback: Placement, placement: Placement, bounds: Bounds) -> str | None:
    """Why an answer may not be used; None if it may."""
    wrong = violations(problem, placement)
    if wrong:
        return f"not allowed: {wrong[0]}"
    value = evaluate(problem, placement)
    if better(problem, evaluate(problem, fallback), value):
        return "worse than the fallback"
    return _untrue(problem, value, bounds)


def _untrue(problem: Problem, value: Value, bounds: Bounds) -> str | None:
    """A bound that the answer itself is below, in the first tier that is not at its bound, cannot be true."""
    tiers = problem.tiers
    serve = bounds.serve or (0,) * problem.ranks
    if len(serve) != problem.ranks:
        return f"bounds for {len(serve)} ranks of priority, not {problem.ranks}"
    pairs = [("repair", value.repair, bounds.repair)]
    pairs += [("serve", have, bound) for have, bound in zip(value.serve, serve, strict=True)]
    pairs += [("meet", value.meet, bounds.meet)] if tiers.meet else []
    pairs += [("leave", value.leave, bounds.leave)] if tiers.leave else []
    pairs += [("balance", value.balance, bounds.balance)] if tiers.balance else []
    for tier, have, bound in pairs:
        if have < bound:
            return f"untrue: {tier} is {have}, and its bound {bound}"
        if have > bound:
            return None
    return None


def _answer(problem: Problem, placement: Placement, reply: Reply, seconds: float) -> Answer:
    """Valued here: what the process thinks of its placement does not count."""
    value, bounds = evaluate(problem, placement), reply.bounds
    stage = StageReport(
        solver=reply.solver,
        seconds=seconds,
        end_reason=reply.end_reason,
        value=value,
        balance_bound_us=bounds.balance,
        gap=(value.balance - bounds.balance) / value.balance if value.balance > bounds.balance else 0.0,
    )
    return Answer(
        placement=placement,
        value=value,
        before=evaluate(problem, Placement.unchanged(problem)),
        bounds=bounds,
        solver=reply.solver,
        end_reason=reply.end_reason,
        stages=reply.stages or (stage,),
    )


def _fall_back(problem: Problem, fallback: Placement, reason: str) -> Solved:
    value = evaluate(problem, fallback)
    answer = Answer(
        placement=fallback,
        value=value,
        before=evaluate(problem, Placement.unchanged(problem)),
        bounds=Bounds(),
        solver="fallback",
        end_reason=reason,
        stages=(),
    )
    return Solved(answer=answer, fallback=reason)
