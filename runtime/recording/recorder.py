"""What a controller's loop has heard and decided, as the events of its log.

Decides which events there are; must never know a file or a clock, nor decide anything about a session.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runtime.controller.controller import EpochOver, Happening, Planned
from runtime.controller.step import Step
from runtime.gateway import messages as gate
from runtime.journal.records import Created, Ended, Joined, Left, Placed, Prompted, Record
from runtime.journal.truth import Owned, Truth
from runtime.recording import events as line
from runtime.recording.events import TEXT_CHARACTERS_MAX, Event
from runtime.recording.tally import Once, Tally
from runtime.worker.process.messages import Heartbeat
from scheduler import events
from scheduler.cluster import GpuStatus
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.plan import Decision, Move
from scheduler.planner_settings import PlannerSettings
from scheduler.sizes import state_bytes

UNPLANNED = "drain"  # why a session moves that no plan has named: its GPU is emptied

_GPU_STATUS: dict[type[events.GpuEvent], GpuStatus] = {
    events.GpuStarting: "starting",
    events.GpuReady: "ready",
    events.GpuDraining: "draining",
    events.GpuLost: "lost",
    events.GpuStopped: "off",
}
_MoveEvent = events.MoveStarted | events.MoveEnded | events.MoveFailed | events.SessionClosed


@dataclass(slots=True)
class _Session:
    profile: str
    lineage: int  # of its last owner; -1: it had none yet
    wanted: bool | None  # by its client; None: it has not said so to this controller


class Recorder:
    """Of one controller's life. Time is an argument, in seconds of the loop's clock."""

    def __init__(self, fleet: Fleet, truth: Truth, now_s: float) -> None:
        self._fleet, self._began_s, self._truth = fleet, now_s, truth
        self._sessions = {
            name: _Session(profile=owned.profile, lineage=_last_lineage(owned), wanted=None)
            for name, owned in truth.sessions.items()
        }
        self._gpus: dict[str, GpuStatus] = dict.fromkeys(map(str, all_off(fleet).gpus), "off")
        self._moves: dict[str, tuple[events.MoveStarted, float]] = {}  # under way, and since when
        self._planned: dict[tuple[str, str, str | None, str | None], Move] = {}
        self._tally, self._once = Tally(fleet), Once()

    def began(self, planner: PlannerSettings, version: str, unix_s: float) -> line.Began:
        """The header."""
        return line.Began(
            t_s=0.0,
            format=line.EVENTS_FORMAT,
            version=version,
            controller_epoch=self._truth.controller_epoch,
            started_unix_s=round(unix_s, 6),
            fleet=self._fleet.effective(),
            planner=planner.model_dump(mode="json"),
            workers=tuple(sorted(self._truth.workers)),
            sessions={name: session.profile for name, session in sorted(self._sessions.items())},
        )

    def begun(self, step: Step, now_s: float) -> list[Event]:
        """What the controller has decided while it began."""
        return list(self._decided(step, self._t_s(now_s)))

    def heard(self, happening: Happening, step: Step, now_s: float) -> list[Event]:
        """One thing that has happened, and what was decided and written down because of it."""
        t_s = self._t_s(now_s)
        found = list(self._happened(happening, t_s))
        found += self._decided(step, t_s)
        return found

    def ended(self, now_s: float) -> list[Event]:
        """The controller was stopped."""
        t_s = self._t_s(now_s)
        return [*self._tally.lines(t_s), line.RecordingEnded(t_s=t_s, reason="stopped")]

    def _t_s(self, now_s: float) -> float:
        return round(max(0.0, now_s - self._began_s), 6)

    def _happened(self, happening: Happening, t_s: float) -> Iterator[Event]:
        match happening:
            case gate.Want():
                session = self._sessions.get(happening.session_id)
                if session is not None and session.wanted is not happening.active:
                    session.wanted = happening.active
                    yield line.SessionWanted(t_s=t_s, session_id=happening.session_id, active=happening.active)
            case gate.Controlled():
                for session_id, controls in happening.counts:
                    if session_id in self._sessions:
                        yield line.SessionControlled(t_s=t_s, session_id=session_id, controls=controls)
            case Heartbeat() if happening.worker in self._gpus and self._once.is_new(happening):
                self._tally.add(happening.worker, happening.computed)
            case EpochOver():
                yield from self._tally.lines(t_s)
            case Planned():
                yield self._plan(happening.decision, t_s)

    def _decided(self, step: Step, t_s: float) -> Iterator[Event]:
        created = [record for record in step.records if isinstance(record, Created)]
        for record in created:
            self._sessions[record.session_id] = _Session(profile=record.profile, lineage=-1, wanted=True)
            yield line.SessionCreated(t_s=t_s, session_id=record.session_id, profile=record.profile)
        yield from self._told(step.events, t_s)
        for other in step.records:
            yield from self._written(other, t_s)

    def _written(self, record: Record, t_s: float) -> Iterator[Event]:
        match record:
            case Prompted():
                yield line.SessionPrompted(t_s=t_s, session_id=record.session_id, serial=record.serial)
            case Placed():
                session = self._sessions[record.session_id]
                session.lineage += 1
                if session.lineage > 0:
                    yield line.SessionRestarted(t_s=t_s, session_id=record.session_id, lineage=session.lineage)
            case Ended():
                del self._sessions[record.session_id]
                yield line.SessionEnded(t_s=t_s, session_id=record.session_id)
            case Joined():
                yield line.WorkerJoined(t_s=t_s, worker=record.worker, incarnation=record.incarnation)
            case Left():
                yield line.WorkerLeft(t_s=t_s, worker=record.worker, incarnation=record.incarnation)
            case _:
                pass  # steps of hand-overs are moves, and what is lost is told when it begins anew

    def _told(self, told: tuple[events.Event, ...], t_s: float) -> Iterator[Event]:
        """Moves and GPUs. A move that ends in the step in which it began is none: a picture was drawn anew."""
        drawn = _drawn(told)
        for index, event in enumerate(told):
            if isinstance(event, _MoveEvent) and index not in drawn:
                yield from self._move(event, t_s)
            elif isinstance(event, events.GpuEvent):
                status = _GPU_STATUS[type(event)]
                if self._gpus[event.gpu_id] != status:
                    self._gpus[event.gpu_id] = status
                    yield line.GpuChanged(t_s=t_s, gpu_id=event.gpu_id, status=status)

    def _move(self, event: _MoveEvent, t_s: float) -> Iterator[Event]:
        before = self._moves.pop(event.session_id, None)
        if before is not None:
            kind = line.MoveEnded if isinstance(event, events.MoveEnded) else line.MoveFailed
            seconds = round(t_s - before[1], 6)
            yield kind(t_s=t_s, session_id=event.session_id, move=before[0].kind, seconds=seconds)
        if isinstance(event, events.MoveStarted):
            self._moves[event.session_id] = (event, t_s)
            planned = self._planned.get((event.session_id, event.kind, event.source, event.target))
            profile = self._sessions[event.session_id].profile
            yield line.MoveBegan(
                t_s=t_s,
                session_id=event.session_id,
                move=event.kind,
                source=event.source,
                target=event.target,
                reason=UNPLANNED if planned is None else planned.reason[:TEXT_CHARACTERS_MAX],
                state_bytes=0 if event.kind == "place" else state_bytes(self._fleet, profile),
            )

    def _plan(self, decision: Decision, t_s: float) -> line.PlanMade:
        plan, report = decision.plan, decision.report
        self._planned = {(move.session_id, move.kind, move.source, move.target): move for move in plan.moves}
        gap = report.headline.gap if report.tiers and report.headline.proof else None
        return line.PlanMade(
            t_s=t_s,
            version=plan.version,
            solver=report.solver[:TEXT_CHARACTERS_MAX],
            end_reason=report.end_reason[:TEXT_CHARACTERS_MAX],
            gap=None if gap is None else max(0.0, gap),
            moves=len(plan.moves),
            solve_s=round(sum((stage.seconds for stage in report.stages), 0.0), 6),
            fallback=None if report.fallback is None else report.fallback[:TEXT_CHARACTERS_MAX],
        )


def _drawn(told: tuple[events.Event, ...]) -> set[int]:
    """The events of moves that begin and end at once."""
    begun: dict[str, int] = {}
    found: set[int] = set()
    for index, event in enumerate(told):
        if isinstance(event, events.MoveStarted):
            begun[event.session_id] = index
        elif isinstance(event, events.MoveEnded) and event.session_id in begun:
            found |= {begun.pop(event.session_id), index}
    return found


def _last_lineage(owned: Owned) -> int:
    """Whoever is placed again begins the next one."""
    return owned.lineage if owned.worker is not None or owned.lost else -1
