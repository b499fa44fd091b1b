"""The runs that an event log tells of.

Decides when sessions were active and GPUs were on, and which events cannot follow those before; must never know what a
policy would have done.

A run is what one controller after another has recorded until one of them was asked to stop. Where one ended otherwise,
whoever was active stays so until the next one hears something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runtime.recording import events as line
from runtime.recording.events import Event
from runtime.recording.live_run import LiveRun, TimeOn
from runtime.recording.reading import read_events
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.fleet_checks import check_fleet
from scheduler.planner_settings import PlannerSettings
from scheduler.validation import problems_of
from traces.errors import BadInputError, Finding

_OFF = ("off", "lost")  # a lost GPU is paid no longer


def read_runs(path: Path) -> list[LiveRun]:
    """In their order. Raises `BadInputError` for a file that is no event log, or contradicts itself."""
    runs: list[LiveRun] = []
    fold: _Fold | None = None
    for number, event in read_events(path):
        where = _Where(source=str(path), line=number)
        if isinstance(event, line.Began):
            if fold is None or fold.run.complete:
                fold = _Fold(event, where)
                runs.append(fold.run)
            else:
                fold.goes_on(event, where)
        elif fold is None:
            raise where.wrong(f"kind must be began, with format={line.EVENTS_FORMAT}, on the first line")
        else:
            fold.take(event, where)
            if fold.run.complete:
                fold.close()
    if fold is None:
        raise BadInputError.of(str(path), f"must begin with a line of kind began, with format={line.EVENTS_FORMAT}", 1)
    fold.close()
    return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    source: str
    line: int

    def wrong(self, message: str) -> BadInputError:
        return BadInputError.of(self.source, message, self.line)


@dataclass(slots=True)
class _Session:
    profile: str
    active_since_s: float | None


class _Fold:
    """A run under way."""

    def __init__(self, began: line.Began, where: _Where) -> None:
        fleet, planner = _fleet(began, where), _planner(began, where)
        self.run = LiveRun(fleet=fleet, planner=planner, started_unix_s=began.started_unix_s)
        self._type = _types(fleet)
        self._offset_s, self._here_s = 0.0, 0.0  # of the controller's times, and the last of them
        self._sessions: dict[str, _Session] = {}
        self._on: dict[str, float] = {}  # GPUs, and since when
        self._find(began.sessions, 0.0)

    def goes_on(self, began: line.Began, where: _Where) -> None:
        """The one before was killed, or has failed: times go on by the wall clock, and never backwards."""
        run, before_s = self.run, self.run.end_s
        run.fleet, run.planner = _fleet(began, where), _planner(began, where)
        run.controllers += 1
        self._type |= _types(run.fleet)
        self._here_s = 0.0
        self._offset_s = max(before_s, round(began.started_unix_s - run.started_unix_s, 6))
        run.end_s = self._offset_s
        for name in [name for name in self._sessions if name not in began.sessions]:
            self._close(name, before_s)
        self._find({n: p for n, p in began.sessions.items() if n not in self._sessions}, self._offset_s)
        for name in [name for name in self._on if name not in began.workers]:
            self._switched(name, on=False, now_s=before_s)

    def take(self, event: Event, where: _Where) -> None:
        if self.run.complete:
            raise where.wrong("kind must be began after a recording has ended")
        if event.t_s < self._here_s:
            raise where.wrong(f"t_s={event.t_s} must be >= {self._here_s}, when the event before it happened")
        self._here_s = event.t_s
        now_s = self.run.end_s = round(self._offset_s + event.t_s, 6)
        match event:
            case line.SessionCreated():
                if event.session_id in self._sessions:
                    raise where.wrong(f"session_id={event.session_id} must be new; it was created before")
                self._find({event.session_id: event.profile}, now_s)
            case line.PlanMade():
                self.run.plans += 1
                self.run.fallbacks += event.fallback is not None
            case line.RecordingEnded():
                self.run.complete = True
            case line.WorkerJoined() | line.WorkerLeft() | line.Began():
                pass
            case line.GpuChanged() | line.RoundsMeasured() | line.ChunksMeasured():
                if event.gpu_id not in self._type:
                    raise where.wrong(f"gpu_id={event.gpu_id} must be a GPU of the fleet")
                self._of_gpu(event, now_s)
            case _:
                if event.session_id not in self._sessions:
                    raise where.wrong(f"session_id={event.session_id} must be that of a session that was created")
                self._of_session(event, now_s)

    def close(self) -> None:
        """Whoever is still there is so until the last event."""
        for name in list(self._sessions):
            self._close(name, self.run.end_s)
        for name in list(self._on):
            self._switched(name, on=False, now_s=self.run.end_s)

    def _find(self, profiles: Mapping[str, str], now_s: float) -> None:
        self.run.session_count += len(profiles)
        self._sessions |= {name: _Session(profile, now_s) for name, profile in profiles.items()}

    def _of_session(self, event: line.OfSession, now_s: float) -> None:
        match event:
            case line.SessionWanted():
                self._wanted(event.session_id, active=event.active, now_s=now_s)
            case line.SessionEnded():
                self._close(event.session_id, now_s)
            case line.SessionRestarted():
                self.run.restarts += 1
            case line.MoveEnded():
                self.run.moves[event.move] += 1
                self.run.move_seconds[event.move] += event.seconds
            case line.MoveFailed():
                self.run.moves_failed[event.move] += 1
            case line.SessionPrompted() | line.SessionControlled() | line.MoveBegan():
                pass

    def _of_gpu(self, event: line.OfGpu, now_s: float) -> None:
        match event:
            case line.GpuChanged():
                self._switched(event.gpu_id, on=event.status not in _OFF, now_s=now_s)
            case line.RoundsMeasured():
                of = self.run.rounds[self._type[event.gpu_id], tuple(sorted(event.content.items()))]
                of.rounds, of.seconds = of.rounds + event.rounds, of.seconds + event.seconds
            case line.ChunksMeasured():
                figures = self.run.chunks[event.profile, event.batch]
                figures.chunks, figures.late = figures.chunks + event.chunks, figures.late + event.late
                figures.seconds += event.seconds
                figures.seconds_max = max(figures.seconds_max, event.seconds_max)

    def _wanted(self, name: str, *, active: bool, now_s: float) -> None:
        session = self._sessions[name]
        if active and session.active_since_s is None:
            session.active_since_s = now_s
        elif not active and session.active_since_s is not None:
            self.run.periods.append((name, session.active_since_s, now_s, session.profile))
            session.active_since_s = None

    def _close(self, name: str, now_s: float) -> None:
        self._wanted(name, active=False, now_s=now_s)
        del self._sessions[name]

    def _switched(self, name: str, *, on: bool, now_s: float) -> None:
        since_s = self._on.get(name)
        if on and since_s is None:
            self._on[name] = now_s
        elif not on and since_s is not None:
            del self._on[name]
            self.run.times_on.append(TimeOn(gpu_type=self._type[name], on_s=since_s, off_s=now_s))


def _types(fleet: Fleet) -> dict[str, str]:
    return {str(name): gpu.gpu_type for name, gpu in all_off(fleet).gpus.items()}


def _fleet(began: line.Began, where: _Where) -> Fleet:
    fleet, problems = check_fleet(began.fleet)
    if problems or fleet is None:
        raise _all_wrong(where, (f"fleet: {problem.message}" for problem in problems))
    return fleet


def _planner(began: line.Began, where: _Where) -> PlannerSettings:
    try:
        return PlannerSettings.model_validate(began.planner, strict=False)
    except ValidationError as error:
        problems = problems_of(error, PlannerSettings)
        raise _all_wrong(where, (f"planner: {problem.message}" for problem in problems)) from None


def _all_wrong(where: _Where, messages: Iterable[str]) -> BadInputError:
    return BadInputError([Finding(source=where.source, message=message, line=where.line) for message in messages])
