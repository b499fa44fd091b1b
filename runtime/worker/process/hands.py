"""What the table of sessions decides, done: states opened, copied, sent and forgotten.

Decides nothing but in which order; must never know what a message said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

from runtime.chunk_models.chunk_model import ChunkModel, RefusedError, Seat
from runtime.state.arena import Arena
from runtime.state.blocks import Block
from runtime.state.copying import Busy, Copies, Copy
from runtime.state.ranges import Ranges, to_granules, whole
from runtime.transfer.attempt import OpenReceiving, OpenSending, SendRound, StopLane
from runtime.transfer.lanes import Lanes
from runtime.transfer.messages import REASON_MAX, Reactivated, Sent
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
    StateLost,
)
from runtime.worker.messages import Frozen, Report, StreamReport
from runtime.worker.process.carried import Carried, unpacked
from runtime.worker.process.delivery import Delivery
from runtime.worker.process.passes import Passes
from runtime.worker.process.seats import Seats
from runtime.worker.sessions import SessionTable
from scheduler.cluster import SessionId


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a worker's compute thread works with."""

    table: SessionTable
    seats: Seats
    model: ChunkModel
    passes: Passes
    device: Arena
    host: Arena
    lanes: Lanes
    copies: Copies
    delivery: Delivery
    say: Callable[[Report], None]  # to the controller
    tell: Callable[[StreamReport], None]  # to the gateway


class Hands:
    """Used by the compute thread alone, between two passes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._copying: dict[int, Copy] = {}

    @property
    def copying(self) -> bool:
        """A copy is under way that has to be looked after."""
        return bool(self._copying)

    def handle(self, event: Event, now_s: float) -> None:
        self.do(self._parts.table.handle(event, now_s), now_s)

    def do(self, actions: tuple[Action, ...], now_s: float) -> None:
        for action in actions:
            match action:
                case Say():
                    self._say(action.report)
                case OpenSlot():
                    self._open(action, now_s)
                case CopyState():
                    self._copy(action, now_s)
                case Adopt():
                    carried = unpacked(action.head)
                    assert isinstance(carried, Carried), "heads are read when they arrive"
                    self._parts.seats.put(action.session_id, carried)
                case Forget():
                    self._forget(action.session_id, now_s)
                case OpenSending() | OpenReceiving() | SendRound() | StopLane():
                    self._parts.lanes.act(action)
                case _:
                    assert_never(action)

    def end_copies(self, now_s: float) -> None:
        for copy_id in [copy_id for copy_id, copy in self._copying.items() if copy.done()]:
            del self._copying[copy_id]
            self.handle(CopyEnded(copy_id=copy_id), now_s)

    def dirty(self, seat: Seat, block: Block) -> Ranges:
        """What the seat's chunk writes of its block."""
        ranges = self._parts.model.dirty(seat.head)
        return to_granules(((one.start, one.stop) for one in ranges), block.size_bytes)

    def _say(self, report: Report) -> None:
        parts = self._parts
        if isinstance(report, Sent):
            carried = parts.seats.get(SessionId(report.session_id))
            if carried is not None:  # otherwise its state was lost since, and this is said once more
                number = carried.head.chunk_number
                parts.say(Frozen(session_id=report.session_id, attempt=report.attempt, chunk_number=number))
        elif isinstance(report, Reactivated):
            parts.delivery.want_key_frame(SessionId(report.session_id))  # its client has seen another's stream
        parts.say(report)

    def _open(self, action: OpenSlot, now_s: float) -> None:
        carried = self._parts.seats.get(action.session_id)
        assert carried is not None, "what is opened has a text"
        try:
            self._parts.model.open(Seat(head=carried.head, offset=action.block.start))
        except (RefusedError, MemoryError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"[:REASON_MAX]
            self.handle(StateLost(session_id=action.session_id, reason=reason), now_s)
            return
        self.handle(SlotReady(session_id=action.session_id), now_s)

    def _copy(self, action: CopyState, now_s: float) -> None:
        device, host = self._parts.device.view(action.device), self._parts.host.view(action.host)
        source, target = (device, host) if action.to_host else (host, device)
        copy = self._parts.copies.begin(source, target, whole(source.numel()))
        if isinstance(copy, Busy):
            self.handle(CopyEnded(copy_id=action.copy_id, failure=str(copy)), now_s)
        else:
            self._copying[action.copy_id] = copy

    def _forget(self, session_id: SessionId, now_s: float) -> None:
        """Its scratch goes before its block is anybody else's."""
        self._parts.passes.forget(session_id)
        self._parts.delivery.left(session_id)
        if self._parts.seats.remove(session_id):
            self.handle(ChunkEnded(session_id=session_id, dirty=()), now_s)
