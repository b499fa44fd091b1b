"""One worker of a toy fleet: its table, memories of one byte per granule, and threads that do late what they are told.

The truth about a session is kept beside all that, so that a state that arrives anywhere can be compared with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.controller.handovers import Part
from runtime.state.blocks import BlockMap
from runtime.state.ranges import GRANULE_BYTES, Range, to_granules
from runtime.transfer.attempt import (
    LaneEnded,
    LaneFailed,
    Listening,
    OpenReceiving,
    OpenSending,
    SendRound,
    StopLane,
)
from runtime.transfer.messages import AttemptId, Side
from runtime.worker.books import Record
from runtime.worker.events import (
    Action,
    Adopt,
    ChunkEnded,
    CopyEnded,
    CopyState,
    Event,
    Forget,
    OpenSlot,
    Say,
    SlotReady,
)
from runtime.worker.messages import Command, Report
from runtime.worker.sessions import SessionTable
from scheduler.cluster import SessionId

DEVICE_GRANULES, HOST_GRANULES = 14, 10
CHUNK_GRANULES = 2


@dataclass
class Truth:
    """What a session's state must be, wherever it is."""

    granules: int
    content: bytearray
    chunks: int = 0

    @property
    def dirty(self) -> tuple[int, ...]:
        """The granules that the next chunk writes: a ring."""
        return tuple(sorted({(self.chunks * 2 + at) % self.granules for at in range(CHUNK_GRANULES)}))


@dataclass
class Lane:
    """A thread of one attempt on one side."""

    worker: ToyWorker
    opened: OpenSending | OpenReceiving
    rounds: deque[SendRound] = field(default_factory=deque)


class World:
    """What all workers share."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.truth: dict[SessionId, Truth] = {}
        self.to_controller: list[tuple[str, int, Report]] = []


class ToyWorker:
    """One incarnation."""

    def __init__(self, world: World, name: str, incarnation: int) -> None:
        self.world, self.name, self.incarnation = world, name, incarnation
        self.device, self.host = BlockMap(DEVICE_GRANULES * GRANULE_BYTES), BlockMap(HOST_GRANULES * GRANULE_BYTES)
        self.table = SessionTable(self.device, self.host, incarnation=incarnation, lanes_max=2)
        self.memory = {"device": bytearray(DEVICE_GRANULES), "host": bytearray(HOST_GRANULES)}
        self.events: deque[Event] = deque()  # of the worker's own threads, in order
        self.copies: list[CopyState] = []
        self.lanes: dict[AttemptId, Lane] = {}
        self.computing: list[SessionId] = []
        self.chunks: dict[SessionId, int] = {}  # what the chunk model knows beside the block

    def told(self, command: Command) -> None:
        self._do(self.table.command(command, self.world.now_s))

    def parts(self) -> Iterator[Part]:
        """The attempts in its inventory."""
        for record in self.table.records.values():
            if record.outgoing is not None:
                yield _part(record, "source", record.outgoing.attempt)
            if record.incoming is not None:
                yield _part(record, "target", record.incoming.attempt)

    def take_event(self) -> None:
        self._do(self.table.handle(self.events.popleft(), self.world.now_s))

    def now(self, event: Event) -> None:
        self._do(self.table.handle(event, self.world.now_s))

    def begin_round(self) -> tuple[SessionId, ...]:
        """Each session's chunk has written half of what it will write."""
        begun = self.table.runnable
        self.table.begin_round(begun)
        for session_id in begun:
            truth = self.world.truth[session_id]
            self._write(session_id, truth.dirty[0], (truth.chunks + 1) % 251)
        self.computing += begun
        return begun

    def end_chunk(self, session_id: SessionId) -> None:
        """Also of a session that has gone meanwhile: its block is still there."""
        self.computing.remove(session_id)
        truth, there = self.world.truth[session_id], session_id in self.table.records
        dirty = truth.dirty
        truth.chunks += 1
        for at in dirty:
            truth.content[at] = truth.chunks % 251
            if there and self.table.records[session_id].device is not None:
                self._write(session_id, at, truth.chunks % 251)
        self.chunks[session_id] = truth.chunks
        ranges = tuple(Range(at * GRANULE_BYTES, (at + 1) * GRANULE_BYTES) for at in dirty)
        self.now(ChunkEnded(session_id=session_id, dirty=to_granules(ranges, truth.granules * GRANULE_BYTES)))

    def _write(self, session_id: SessionId, granule: int, value: int) -> None:
        block = self.table.records[session_id].device
        assert block is not None
        self.memory["device"][block.start // GRANULE_BYTES + granule] = value

    def content(self, session_id: SessionId) -> bytearray:
        block = self.table.records[session_id].device
        assert block is not None
        first = block.start // GRANULE_BYTES
        return self.memory["device"][first : first + self.world.truth[session_id].granules]

    def _do(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            match action:
                case Say():
                    self.world.to_controller.append((self.name, self.incarnation, action.report))
                case OpenSlot():
                    first = action.block.start // GRANULE_BYTES
                    truth = self.world.truth[action.session_id]
                    self.memory["device"][first : first + truth.granules] = truth.content
                    self.chunks[action.session_id] = truth.chunks  # 0, or it begins anew where the last one ended
                    self.events.append(SlotReady(session_id=action.session_id))
                case CopyState():
                    self.copies.append(action)
                case Adopt():
                    self.chunks[action.session_id] = int.from_bytes(action.head)
                    truth = self.world.truth[action.session_id]
                    assert self.content(action.session_id) == truth.content, "not the state that was frozen"
                    assert self.chunks[action.session_id] == truth.chunks
                case Forget():
                    self.chunks.pop(action.session_id, None)
                case OpenSending() | OpenReceiving():
                    assert action.attempt not in self.lanes
                    self.lanes[action.attempt] = Lane(self, action)
                    if isinstance(action, OpenReceiving):
                        self.events.append(Listening(attempt=action.attempt, route=action.route))
                case SendRound():
                    if action.attempt in self.lanes:
                        self.lanes[action.attempt].rounds.append(action)
                case StopLane():
                    self.end_lane(action.attempt)

    def end_lane(self, attempt: AttemptId, failure: str | None = None) -> None:
        if self.lanes.pop(attempt, None) is not None:
            if failure is not None:
                self.events.append(LaneFailed(attempt=attempt, reason=failure))
            self.events.append(LaneEnded(attempt=attempt))

    def end_copy(self, failure: str | None) -> None:
        copy = self.copies.pop(0)
        size = copy.host.size_bytes // GRANULE_BYTES
        at = {"device": copy.device.start // GRANULE_BYTES, "host": copy.host.start // GRANULE_BYTES}
        source, target = ("device", "host") if copy.to_host else ("host", "device")
        self.memory[target][at[target] : at[target] + size] = (
            b"\xee" * size if failure else self.memory[source][at[source] : at[source] + size]
        )
        self.events.append(CopyEnded(copy_id=copy.copy_id, failure=failure))


def _part(record: Record, side: Side, attempt: AttemptId) -> Part:
    return Part(session_id=record.session_id, attempt=attempt, side=side, ownership=record.ownership)
