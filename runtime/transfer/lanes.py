"""The threads that copy states between workers: one for each attempt, few at once.

Decides what a thread does with its orders and what it tells when it ends; must never know what an attempt means. Every
lane ends with `LaneEnded`, after which nothing touches its block.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.state.arena import Arena
from runtime.state.checksum import warm_up
from runtime.transfer.attempt import (
    LANES_MAX,
    Arrived,
    LaneAction,
    LaneEnded,
    LaneEvent,
    LaneFailed,
    Listening,
    OpenReceiving,
    OpenSending,
    RoundSent,
    SendRound,
    StopLane,
)
from runtime.transfer.messages import AttemptId, Way
from runtime.transfer.rounds import Receiver, Sender
from runtime.transfer.transport import STALL_S, TransferError
from runtime.transfer.ways import Approach
from runtime.transfer.wire import Patience
from scheduler.cluster import SessionId

ORDERS_MAX = 2  # rounds that wait in a lane; the source gives the next when it has heard of the last
ALIVE_SHARE = 0.25  # of the stall time, between two signs of life
CLOSE_S = 30.0

Tell = Callable[[LaneEvent], None]


def _nobody_asks(attempt: AttemptId, moved_bytes: int) -> None:
    """Progress is for those who watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSettings:
    """How lanes of one worker behave."""

    lanes_max: int = LANES_MAX
    stall_s: float = STALL_S
    recheck: bool = False  # sum the whole block anew before the last round ends
    clock: Callable[[], float] = time.monotonic
    progress: Callable[[AttemptId, int], None] = _nobody_asks


class Lanes:
    """All lanes of one worker. `tell` is called from their threads; `head_of` when the last round of a session goes."""

    def __init__(
        self,
        arena: Arena,
        ways: Mapping[Way, Approach],
        tell: Tell,
        head_of: Callable[[SessionId], bytes],
        settings: LaneSettings | None = None,
    ) -> None:
        warm_up()
        self._arena, self._ways, self._tell, self._head_of = arena, ways, tell, head_of
        self._settings = settings or LaneSettings()
        self._lanes: dict[AttemptId, _Lane] = {}

    def act(self, action: LaneAction) -> None:
        """Called from one thread; returns at once."""
        self._lanes = {attempt: lane for attempt, lane in self._lanes.items() if not lane.over.is_set()}
        match action:
            case OpenSending() | OpenReceiving():
                assert len(self._lanes) < self._settings.lanes_max, f"{len(self._lanes)} lanes are open"
                lane = _Lane(self._arena, self._ways, self._tell, self._head_of, self._settings, action)
                self._lanes[action.attempt] = lane
                lane.start()
            case SendRound() if action.attempt in self._lanes:
                self._lanes[action.attempt].orders.put_nowait(action)
            case StopLane() if action.attempt in self._lanes:
                self._lanes[action.attempt].stop()
            case _:
                """The lane has ended by itself, and has told so."""

    def close(self) -> None:
        """Stop all lanes and wait for them."""
        for lane in self._lanes.values():
            lane.stop()
        for lane in self._lanes.values():
            lane.join(CLOSE_S)


class _Lane(threading.Thread):
    def __init__(
        self,
        arena: Arena,
        ways: Mapping[Way, Approach],
        tell: Tell,
        head_of: Callable[[SessionId], bytes],
        settings: LaneSettings,
        opened: OpenSending | OpenReceiving,
    ) -> None:
        super().__init__(name=f"attempt {opened.attempt}", daemon=True)
        self._memory = arena.view(opened.block)
        self._ways, self._tell, self._head_of, self._settings, self._opened = ways, tell, head_of, settings, opened
        self.orders: queue.Queue[SendRound | None] = queue.Queue(ORDERS_MAX)
        self.stopped, self.over = threading.Event(), threading.Event()
        self._patience = Patience(clock=settings.clock, stopped=self.stopped.is_set, stall_s=settings.stall_s)

    def stop(self) -> None:
        self.stopped.set()
        with contextlib.suppress(queue.Full):
            self.orders.put_nowait(None)  # so that it notices at once

    def run(self) -> None:
        attempt = self._opened.attempt
        try:
            way = self._ways.get(self._opened.route.way)
            if way is None:
                self._tell(LaneFailed(attempt=attempt, reason=f"no way {self._opened.route.way} here"))
            elif isinstance(self._opened, OpenSending):
                self._send(way, self._opened)
            else:
                self._receive(way, self._opened)
        except TransferError as error:
            self._tell(LaneFailed(attempt=attempt, reason=str(error)))
        finally:
            del self._memory
            self.over.set()
            self._tell(LaneEnded(attempt=attempt))

    def _send(self, way: Approach, opened: OpenSending) -> None:
        transport = way.connect(opened.route, self._patience, opened.end_s)
        sent: RoundSent | None = None
        try:
            sent = self._send_rounds(Sender(opened.attempt, self._memory, transport, self._progress), opened)
        finally:
            transport.close(finished=sent is not None)
        if sent is not None:
            self._tell(sent)

    def _send_rounds(self, sender: Sender, opened: OpenSending) -> RoundSent | None:
        """The last one; None if the lane was stopped before."""
        while (order := self._next_order(sender)) is not None:
            head = self._head_of(opened.session_id) if order.last else b""
            whole = sender.round(order, head, opened.end_s, recheck=self._settings.recheck)
            sent = RoundSent(attempt=opened.attempt, number=order.number, digest=whole)
            if order.last:
                return sent
            self._tell(sent)
        return None

    def _next_order(self, sender: Sender) -> SendRound | None:
        while not self.stopped.is_set():
            try:
                return self.orders.get(timeout=ALIVE_SHARE * self._settings.stall_s)
            except queue.Empty:
                sender.alive(self._opened.end_s)
        return None

    def _receive(self, way: Approach, opened: OpenReceiving) -> None:
        posted = way.post(opened.route, self._patience)
        try:
            self._tell(Listening(attempt=opened.attempt, route=posted.route))
            transport = posted.accept(opened.end_s)
        finally:
            posted.close()
        arrived: Arrived | None = None
        try:
            arrived = self._receive_rounds(Receiver(opened.attempt, self._memory, transport, self._progress), opened)
        finally:
            transport.close(finished=arrived is not None)
        self._tell(arrived)

    def _receive_rounds(self, receiver: Receiver, opened: OpenReceiving) -> Arrived:
        while True:
            self._patience.check()
            arrived = receiver.round(opened.end_s)
            if arrived is not None:
                return Arrived(attempt=opened.attempt, digest=arrived[0], head=arrived[1])

    def _progress(self, moved_bytes: int) -> None:
        self._settings.progress(self._opened.attempt, moved_bytes)
