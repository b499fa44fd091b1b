"""One emulated worker: a real socket and real messages, the product's table of sessions, and no chunks.

Decides when its rounds begin and how long rounds, copies and transfers take: as the fleet file says, without contention
for links. Must never know what a controller wants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import zmq

from bench.live_words import held_of, hello_of
from runtime.state.blocks import BlockMap
from runtime.state.ranges import Range, bytes_in, round_up, to_granules
from runtime.transfer.attempt import (
    Arrived,
    LaneEnded,
    Listening,
    OpenReceiving,
    OpenSending,
    RoundSent,
    SendRound,
    StopLane,
)
from runtime.transfer.messages import AttemptId, Sent
from runtime.worker.books import SERVES, Record
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
    Ticked,
)
from runtime.worker.messages import Command, Frozen, Open, Report, Resume, Suspend
from runtime.worker.process.lease import LEASE_S
from runtime.worker.process.messages import (
    FRAME_BYTES_MAX,
    AskInventory,
    FromWorker,
    Goodbye,
    Heartbeat,
    Inventory,
    Memory,
    Renew,
    Said,
    encoded,
    from_controller,
)
from runtime.worker.sessions import SessionTable
from scheduler.cluster import Gpu, SessionId
from scheduler.sizes import host_room_mib, room_mib, state_bytes

if TYPE_CHECKING:
    from bench.live_swarm import Swarm
    from bench.live_users import Where

HEARTBEAT_S = 0.5
DIRTY_SHARE = 1 / 7  # of a state, that a chunk writes: its part of the ring
DIGEST = 1  # nothing is corrupted here
MESSAGES_MAX = 1024
_MIB = 1 << 20


@dataclass(slots=True)
class Measured:
    """What all workers have seen of their controller."""

    round_trips_s: list[float] = field(default_factory=list)  # from a heartbeat to its echo
    heard: list[tuple[str, str, float]] = field(default_factory=list)  # kind of order, session, when it was carried out
    messages: int = 0
    leases_over: int = 0  # heartbeats of workers that have heard no echo for a lease
    stopped_with_states: int = 0
    rounds: Counter[int] = field(default_factory=Counter)  # by how many took part


class Worker:
    """One incarnation, from the end of its GPU's start-up until it is stopped."""

    def __init__(self, swarm: Swarm, gpu: Gpu, incarnation: int, now_s: float) -> None:
        self._swarm, self._fleet, self._users, self._gpu = swarm, swarm.fleet, swarm.users, gpu
        self.name, self._incarnation = str(gpu.gpu_id), incarnation
        host_mib = host_room_mib(self._fleet, gpu.node)
        self._device = BlockMap(room_mib(self._fleet, gpu.gpu_type) * _MIB)
        self._host = BlockMap((host_mib or 1 << 20) * _MIB)
        self._table = SessionTable(self._device, self._host, incarnation=incarnation)
        self._profiles: dict[str, str] = {}  # of the sessions that are here
        self._round_end_s: float | None = None
        self._round_begin_s, self._look_s = float("-inf"), float("inf")
        self._renewed_s, self._turn = now_s, 0
        self._lanes: set[AttemptId] = set()
        self.is_gone = False
        self.socket: zmq.Socket[bytes] = swarm.context.socket(zmq.DEALER)
        self.socket.set(zmq.IDENTITY, f"{self.name}/{incarnation}".encode())
        self.socket.set(zmq.LINGER, 1000)
        self.socket.set(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        self.socket.connect(swarm.controller)
        self._hello = hello_of(self._fleet, self.name, incarnation, self._device, self._host, now_s)
        self._say(self._hello)
        self._beat(now_s)

    def holds(self, session_id: str) -> bool:
        """In whichever state."""
        return SessionId(session_id) in self._table.records

    def stop(self, now_s: float) -> None:
        """As it is told to."""
        self._swarm.measured.stopped_with_states += bool(self._table.records)
        self._say(Goodbye(worker=self.name, incarnation=self._incarnation, reason="stopped"))
        self.is_gone = True
        self.socket.close()
        for session_id, record in self._table.records.items():
            self._users.is_now(session_id, "away", record.ownership, now_s)

    def hear(self, now_s: float) -> None:
        """All messages that have come."""
        for _ in range(MESSAGES_MAX):
            try:
                message = from_controller([self.socket.recv(zmq.NOBLOCK)])
            except zmq.Again:
                break
            self._swarm.measured.messages += 1
            match message:
                case Command():
                    self._command(message, now_s)
                case AskInventory() if self._table.hears(message.controller_epoch, message.incarnation):
                    self._table.asked(message.version)
                    self._say(self._inventory(message.question))
                case Renew() if self._table.hears(message.controller_epoch, message.incarnation):
                    self._renewed_s = message.sent_s
                    self._swarm.measured.round_trips_s.append(self._swarm.clock() - message.sent_s)
                case _:
                    pass

    def _command(self, command: Command, now_s: float) -> None:
        body = command.body
        if isinstance(body, Open) and body.text is not None:
            self._profiles[body.session_id] = body.text.profile
        self._do(self._table.command(command, now_s), now_s)
        if isinstance(body, Open | Resume | Suspend):
            self._swarm.measured.heard.append((type(body).__name__, body.session_id, self._swarm.clock()))
        self._look(now_s)

    def _beat(self, now_s: float) -> None:
        if self.is_gone:
            return
        self._swarm.measured.leases_over += now_s - self._renewed_s > LEASE_S
        self._turn += 1
        serving = [record for record in self._table.records.values() if record.state in SERVES]
        self._say(
            Heartbeat(
                worker=self.name,
                incarnation=self._incarnation,
                controller_epoch=self._table.controller_epoch,
                sent_s=self._swarm.clock(),
                turn=self._turn,
                turn_age_s=0.0,
                leased=now_s - self._renewed_s <= LEASE_S,
                dropped=0,
                chunks=tuple((record.session_id, self._users.by_id[record.session_id].number) for record in serving),
            )
        )
        self._now(Ticked(), now_s)
        self._swarm.timers.at(now_s + HEARTBEAT_S, self._beat)

    # ------------------------------------------------------------------ what the table wants done

    def _now(self, event: Event, now_s: float) -> None:
        if not self.is_gone:
            self._do(self._table.handle(event, now_s), now_s)

    def _later(self, seconds: float, event: Event, now_s: float) -> None:
        self._swarm.timers.at(now_s + seconds, partial(self._told, event))

    def _told(self, event: Event, now_s: float) -> None:
        self._now(event, now_s)
        self._look(now_s)

    def _do(self, actions: tuple[Action, ...], now_s: float) -> None:
        links = self._fleet.links
        for action in actions:
            match action:
                case Say():
                    self._report(action.report)
                case OpenSlot():
                    self._now(SlotReady(session_id=action.session_id), now_s)
                case CopyState():
                    seconds = self._transfer_s(action.host.size_bytes, links.device_host_gb_s)
                    self._later(seconds, CopyEnded(copy_id=action.copy_id), now_s)
                case OpenSending():
                    self._lanes.add(action.attempt)
                case OpenReceiving():
                    self._lanes.add(action.attempt)
                    self._swarm.receiving[action.attempt] = self
                    self._profiles[action.session_id] = self._users.by_id[action.session_id].profile
                    self._now(Listening(attempt=action.attempt, route=action.route), now_s)
                case SendRound():
                    seconds = self._transfer_s(bytes_in(action.ranges), links.node_node_gb_s)
                    self._swarm.timers.at(now_s + seconds, partial(self._sent, action))
                case StopLane():
                    self._end_lane(action.attempt, now_s)
                case Adopt() | Forget():
                    pass

    def _transfer_s(self, size_bytes: int, gb_s: float) -> float:
        return self._fleet.links.latency_ms / 1000 + size_bytes / (gb_s * 1e9)

    def _sent(self, sent: SendRound, now_s: float) -> None:
        if sent.attempt not in self._lanes:
            return
        self._now(RoundSent(attempt=sent.attempt, number=sent.number, digest=DIGEST if sent.last else None), now_s)
        if sent.last:
            self._end_lane(sent.attempt, now_s)
            target = self._swarm.receiving.get(sent.attempt)
            if target is not None:
                target.arrived(sent.attempt, now_s)
        self._look(now_s)

    def arrived(self, attempt: AttemptId, now_s: float) -> None:
        """A whole state."""
        self._now(Arrived(attempt=attempt, digest=DIGEST, head=b""), now_s)
        self._end_lane(attempt, now_s)
        self._look(now_s)

    def _end_lane(self, attempt: AttemptId, now_s: float) -> None:
        if attempt in self._lanes:
            self._lanes.remove(attempt)
            if self._swarm.receiving.get(attempt) is self:
                del self._swarm.receiving[attempt]
            self._now(LaneEnded(attempt=attempt), now_s)

    # ------------------------------------------------------------------ rounds

    def _look(self, now_s: float) -> None:
        """Something has changed: who is served, and when the next round may begin."""
        if self.is_gone:
            return
        records = self._table.records
        for session_id, record in records.items():
            where = _where(record)
            if where is not None:
                self._users.is_now(session_id, where, record.ownership, now_s)
        for gone in [name for name in self._profiles if name not in records]:
            del self._profiles[gone]
            self._swarm.left(gone, self, now_s)
        if self._round_end_s is not None:
            return
        members = self._table.runnable
        wants = [at_s for name in members if (at_s := self._users.wants_at_s(name)) is not None]
        if not wants:
            return
        shortest_s = min(self._fleet.profiles[self._profiles[name]].chunk_s for name in members)
        begin_s = max(self._round_begin_s + shortest_s, min(wants))
        if begin_s <= now_s:
            self._begin_round(members, now_s)
        elif begin_s < self._look_s:
            self._look_s = begin_s
            self._swarm.timers.at(begin_s, self._look_again)

    def _look_again(self, now_s: float) -> None:
        self._look_s = float("inf")
        self._look(now_s)

    def _begin_round(self, members: tuple[SessionId, ...], now_s: float) -> None:
        """Who needs a chunk most is taken first; whoever makes the batch impossible is left out."""
        wanting = sorted((at_s, name) for name in members if (at_s := self._users.wants_at_s(name)) is not None)
        taken, round_s = list[SessionId](), 0.0
        out = list[SessionId]()
        for at_s, name in wanting:
            if at_s > now_s:
                continue
            longer_s = self._swarm.latency_s(self._gpu.gpu_type, self._counts([*taken, name]))
            if longer_s < float("inf"):
                taken, round_s = [*taken, name], longer_s
            else:
                out.append(name)
        if not taken:
            return
        self._table.begin_round(taken)
        self._swarm.measured.rounds[len(taken)] += 1
        for name in out:
            self._users.left_out(name, round_s)
        self._round_begin_s, self._round_end_s = now_s, now_s + round_s
        periods = {name: self._users.by_id[name].period for name in taken}
        self._swarm.timers.at(now_s + round_s, partial(self._end_round, periods, round_s))

    def _end_round(self, periods: Mapping[SessionId, int], round_s: float, now_s: float) -> None:
        self._round_end_s = None
        for session_id, period in periods.items():
            self._users.delivered(session_id, period, round_s, now_s)
            size = state_bytes(self._fleet, self._users.by_id[session_id].profile)
            dirty = to_granules((Range(0, round_up(int(size * DIRTY_SHARE))),), round_up(size))
            self._now(ChunkEnded(session_id=session_id, dirty=dirty), now_s)
        self._look(now_s)

    def _counts(self, names: list[SessionId]) -> tuple[int, ...]:
        counts = [0] * len(self._fleet.profiles)
        for name in names:
            counts[self._swarm.profile_index[self._profiles[name]]] += 1
        return tuple(counts)

    # ------------------------------------------------------------------ what it says

    def _say(self, message: FromWorker) -> None:
        self._swarm.measured.messages += 1
        self.socket.send(encoded(message))

    def _inventory(self, question: int) -> Inventory:
        return Inventory(
            question=question,
            controller_epoch=self._table.controller_epoch,
            hello=self._hello,
            leased=True,
            lanes=self._table.lanes,
            device=Memory.of(self._device.room),
            host=Memory.of(self._host.room),
            sessions=tuple(
                held_of(record, self._users.by_id[record.session_id]) for record in self._table.records.values()
            ),
        )

    def _report(self, report: Report) -> None:
        if isinstance(report, Sent):
            number = self._users.by_id[report.session_id].number
            self._report(Frozen(session_id=report.session_id, attempt=report.attempt, chunk_number=number))
        epoch = self._table.controller_epoch
        self._say(Said(worker=self.name, incarnation=self._incarnation, controller_epoch=epoch, report=report))


def _where(record: Record) -> Where | None:
    """None: it is on its way here, and whoever it comes from says how it is."""
    freezing = record.outgoing is not None and record.outgoing.phase != "precopy"
    if record.incoming is not None or record.state in ("incoming", "received"):
        return None
    if record.state in SERVES and not freezing:
        return "served" if record.active else "away"
    return "travels" if freezing or record.state in ("frozen", "resuming", "opening") else "away"
