"""The thread that computes: between two passes it hears what has come, and decides who takes part in the next.

Decides when a pass is made and how long to wait where there is none; must never know a socket, nor what a message said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from runtime.chunk_models.chunk_model import Chunk, Seat
from runtime.transfer.messages import REASON_MAX
from runtime.worker.events import ChunkEnded, StateLost, Ticked
from runtime.worker.process.hands import Hands, Parts
from runtime.worker.process.hearing import Hearing
from runtime.worker.process.inbox import Inbox
from runtime.worker.process.outbox import Outbox
from runtime.worker.process.passes import Blamed
from runtime.worker.process.rounds import RoundMeter
from scheduler.cluster import SessionId

TICK_S = 0.05  # between two looks at the deadlines of attempts, while there are some
COPY_LOOK_S = 0.002  # while a copy is under way, which tells nobody when it ends
RETRY_S = 0.01  # while a chunk waits for the encode thread
IDLE_S = 0.2  # while nothing happens: a turn is a sign of life


class DeviceFailedError(RuntimeError):
    """The device does not compute any more: not for one session, but for nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What the compute thread shows of itself, once a turn."""

    turn: int = 0
    begun_s: float = 0.0
    leased: bool = False
    controller_epoch: int = 0
    chunks: tuple[tuple[str, int], ...] = ()


class Compute:
    """`run` is the thread; `stop`, `pulse` and `meter` are for others."""

    def __init__(
        self,
        parts: Parts,
        hands: Hands,
        hearing: Hearing,
        inbox: Inbox,
        outbox: Outbox,
        *,
        drain_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts, self._hands, self._hearing, self._inbox, self._outbox = parts, hands, hearing, inbox, outbox
        self._drain_s, self._clock = drain_s, clock
        self._stopping = threading.Event()
        self._next_tick_s = 0.0
        self.pulse = Pulse(begun_s=clock())
        self.meter = RoundMeter(parts.model.passes_per_chunk)

    def stop(self) -> None:
        """Begin no more chunks; finish those in progress, in bounded time."""
        self._stopping.set()
        self._inbox.wake()

    def run(self) -> None:
        """Raises `DeviceFailedError`."""
        while not self._stopping.is_set():
            self.turn(begins=True)
        end_s = self._clock() + self._drain_s
        while self._parts.seats.running and self._hearing.lease.holds(self._clock()) and self._clock() < end_s:
            self.turn(begins=False)
        while self._parts.delivery.waits and self._clock() < end_s:
            self.turn(begins=False)

    def turn(self, *, begins: bool) -> None:
        """Hear what has come, and make a pass. `begins`: whoever may begins a chunk."""
        for told in self._inbox.take(self._wait_s(begins=begins)):
            self._hearing.hear(told, self._clock())
        now_s = self._clock()
        self._hands.end_copies(now_s)
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + TICK_S
            self._hands.handle(Ticked(), now_s)
        self._parts.delivery.retry()
        leased = self._hearing.lease.holds(now_s)
        self.pulse = Pulse(
            turn=self.pulse.turn + 1,
            begun_s=now_s,
            leased=leased,
            controller_epoch=self._parts.table.controller_epoch,
            chunks=self._parts.seats.numbers,
        )
        if leased:
            if begins:
                self._begin()
            self._pass()

    def _wait_s(self, *, begins: bool) -> float:
        """0 if a pass can be made."""
        if self._hearing.lease.holds(self._clock()) and (self._parts.seats.running or (begins and self._may_begin())):
            return 0.0
        if self._hands.copying:
            return COPY_LOOK_S
        if self._parts.delivery.waits:
            return RETRY_S
        return TICK_S if self._parts.table.lanes else IDLE_S

    def _may_begin(self) -> list[SessionId]:
        """Whose next chunk may be computed: by the table, by its client's credit, and because it can be delivered."""
        return [
            session_id
            for session_id in self._parts.table.runnable
            if (carried := self._parts.seats.get(session_id)) is not None
            and carried.has_credit
            and self._parts.delivery.may_compute(session_id)
        ]

    def _begin(self) -> None:
        joiners = self._parts.seats.joiners(self._may_begin())
        self._parts.table.begin_round(joiners)
        for session_id in joiners:
            block = self._parts.table.records[session_id].device
            assert block is not None, "who may run has a block"
            self._parts.seats.begin(session_id, block.start)

    def _pass(self) -> None:
        running = self._parts.seats.running
        if not running:
            return
        begun_s = self._clock()
        ended = self._parts.passes.run(running)
        if ended.chunks and self._parts.device.device.type == "cuda":
            torch.cuda.current_stream(self._parts.device.device).synchronize()  # a chunk ends when its bytes are there
        self.meter.passed(running, ended, begun_s, self._clock())
        seats = {seat.head.session: seat for seat in running}
        for chunk in ended.chunks:
            self._complete(chunk, seats[chunk.session])
        for blamed in ended.blamed:
            self._blame(blamed)
        if any(not blamed.refused for blamed in ended.blamed):
            self._look_at_device()

    def _complete(self, chunk: Chunk, seat: Seat) -> None:
        session_id = SessionId(chunk.session)
        self._parts.seats.complete(session_id)
        carried, record = self._parts.seats.get(session_id), self._parts.table.records[session_id]
        assert carried is not None, "whoever is forgotten has no seat"
        assert record.device is not None, "a block stays until its chunk has ended"
        profile = self._parts.model.profiles[seat.head.profile]
        self._parts.delivery.completed(chunk, carried, profile, record.ownership)
        dirty = self._hands.dirty(seat, record.device)
        self._hands.handle(ChunkEnded(session_id=session_id, dirty=dirty), self._clock())

    def _blame(self, blamed: Blamed) -> None:
        reason = blamed.reason if blamed.refused else f"its chunk could not be computed: {blamed.reason}"
        self._hands.handle(StateLost(session_id=SessionId(blamed.session), reason=reason[:REASON_MAX]), self._clock())

    def _look_at_device(self) -> None:
        """Whoever is blamed may have left a device behind that computes for nobody any more."""
        try:
            torch.zeros(1, device=self._parts.device.device).add_(1).item()
        except RuntimeError as error:
            raise DeviceFailedError(f"the device does not compute any more: {error}") from error
