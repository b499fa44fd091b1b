"""The sessions of one worker: commands and events in, actions out.

Decides whose word counts and which sessions may be computed; must never know a clock, a thread or a device.

opening -> active <-> idle; suspending -> suspended -> resuming; precopy -> frozen -> released, or back; incoming ->
received -> active; lost; closed. What is released or closed leaves no record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from runtime.state.blocks import BlockMap
from runtime.transfer.attempt import LANES_MAX, Arrived, LaneEnded, LaneFailed, Listening, RoundSent
from runtime.transfer.outgoing import PrecopyRule
from runtime.worker.books import SERVES, Books, Record
from runtime.worker.events import Action, ChunkEnded, CopyEnded, Event, SlotReady, StateLost, Ticked
from runtime.worker.messages import Close, Command, Demand, Open, Resume, Suspend
from runtime.worker.migrations import Migrations
from runtime.worker.residency import Residency
from scheduler.cluster import SessionId

Steps = tuple[Action, ...]


class SessionTable:
    """All decisions of one incarnation of a worker. Time is an argument, in seconds of any clock that only grows."""

    def __init__(
        self,
        device: BlockMap,
        host: BlockMap,
        *,
        incarnation: int,
        rule: PrecopyRule | None = None,
        lanes_max: int = LANES_MAX,
    ) -> None:
        self._books = Books(device, host)
        self._residency = Residency(self._books)
        self._migrations = Migrations(self._books, rule or PrecopyRule(), lanes_max)
        self._incarnation = incarnation
        self._controller_epoch = 0
        self._version = 0
        self._asked_after = 0  # what was said up to this version and has not come by then is of the past
        self.ignored = 0  # commands of older controllers and plans, and for other incarnations

    @property
    def records(self) -> Mapping[SessionId, Record]:
        """Everybody who is here."""
        return dict(self._books.records)

    @property
    def lanes(self) -> int:
        """Transfers that may still touch a block."""
        return self._books.lanes

    @property
    def controller_epoch(self) -> int:
        """Of the newest controller that has spoken."""
        return self._controller_epoch

    @property
    def runnable(self) -> tuple[SessionId, ...]:
        """Who may take part in the next round; at its begin, ask again."""
        return tuple(record.session_id for record in self._books.records.values() if self._may_run(record))

    def begin_round(self, session_ids: Sequence[SessionId]) -> None:
        """Their chunks are computed from now on, each until its `ChunkEnded`."""
        for session_id in session_ids:
            record = self._books.records[session_id]
            assert self._may_run(record), f"{session_id} may not run: it is {record.state}"
            self._books.begin_round(session_id)
            if record.outgoing is not None:
                self._migrations.round_begun(record)

    def hears(self, controller_epoch: int, incarnation: int) -> bool:
        """Whether that controller means this worker, and no newer one has spoken; otherwise it is ignored."""
        if incarnation != self._incarnation or controller_epoch < self._controller_epoch:
            self.ignored += 1
            return False
        if controller_epoch > self._controller_epoch:
            self._controller_epoch, self._version, self._asked_after = controller_epoch, 0, 0
        return True

    def asked(self, version: int) -> None:
        """Somebody relies on it that from now on only commands after this version have an effect."""
        self._asked_after = max(self._asked_after, version)

    def command(self, command: Command, now_s: float) -> Steps:
        """What the controller says, unless somebody newer has spoken."""
        if not self.hears(command.controller_epoch, command.incarnation):
            return ()
        if command.version <= self._asked_after:
            self.ignored += 1
            return ()
        body = command.body
        if isinstance(body, Open | Demand | Suspend | Resume | Close):
            if command.version < self._version:
                self.ignored += 1
                return ()
            self._version = command.version
            return self._residency.desire(body)
        return self._migrations.command(body, now_s)

    def handle(self, event: Event, now_s: float) -> Steps:
        """What one of the worker's own threads tells."""
        match event:
            case SlotReady():
                return self._residency.slot_ready(event)
            case ChunkEnded():
                return self._chunk_ended(event)
            case CopyEnded():
                return self._residency.copy_ended(event)
            case StateLost():
                return self._lost(event)
            case Ticked():
                return self._migrations.ticked(now_s)
            case RoundSent() | Listening() | Arrived() | LaneFailed() | LaneEnded():
                return self._migrations.lane(event)
            case _:
                assert_never(event)

    def _may_run(self, record: Record) -> bool:
        freezing = record.outgoing is not None and record.outgoing.phase != "precopy"
        return (
            record.state in SERVES
            and record.active
            and not freezing
            and not self._books.is_computing(record.session_id)
        )

    def _chunk_ended(self, event: ChunkEnded) -> Steps:
        self._books.end_round(event.session_id)
        record = self._books.get(event.session_id)
        if record is None:
            return ()
        if record.outgoing is not None:
            return self._migrations.chunk_ended(record, event.dirty)
        return self._residency.chunk_ended(record)

    def _lost(self, event: StateLost) -> Steps:
        """A state that was on its way elsewhere is lost here all the same."""
        record = self._books.get(event.session_id)
        if record is None or record.incoming is not None or record.state in ("lost", "suspended"):
            return ()
        stopped = self._migrations.lost(record, event.reason) if record.outgoing is not None else ()
        return (*stopped, *self._residency.lost(self._books.records[event.session_id], event))
