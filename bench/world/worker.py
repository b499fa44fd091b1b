"""One incarnation of a worker: all of the product's but its threads and sockets.

Decides what is done in one turn; must never know what goes wrong elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from bench.world.fleet import (
    BATCH_MAX,
    DEVICE_STATES,
    FLEET,
    HEARTBEAT_S,
    HOST_STATES,
    LEASE_S,
    STATE_BYTES,
    STATE_SHARE,
)
from bench.world.threads import SimulatedCopies, SimulatedDelivery, SimulatedLanes
from runtime.chunk_models.chunk_model import Chunk
from runtime.chunk_models.emulated import EmulatedChunkModel
from runtime.state.arena import Arena
from runtime.worker.books import SERVES
from runtime.worker.events import StateLost
from runtime.worker.messages import Report, StreamReport, Undelivered
from runtime.worker.process.carried import Carried
from runtime.worker.process.compute import Compute
from runtime.worker.process.hands import Hands, Parts
from runtime.worker.process.hearing import Hearing
from runtime.worker.process.inbox import Inbox, Message
from runtime.worker.process.lease import Lease
from runtime.worker.process.messages import (
    PROTOCOL,
    Delivered,
    Heartbeat,
    Hello,
    Inventory,
    Memory,
    ProfileRoom,
    Said,
    Told,
)
from runtime.worker.process.outbox import ChunkKey, Outbox, Peer
from runtime.worker.process.passes import Passes
from runtime.worker.process.seats import Seats
from runtime.worker.sessions import SessionTable
from scheduler.cluster import SessionId

Computed = Callable[["SimulatedWorker", Chunk, Carried, int], bool]  # chunk, its session after it, ownership
SESSIONS_MAX = DEVICE_STATES + HOST_STATES + 1
PASSES_PER_CHUNK = 2


class SimulatedWorker:
    """`computed` is called with every chunk, and says whether it can be encoded."""

    def __init__(
        self,
        name: str,
        incarnation: int,
        clock: Callable[[], float],
        chance: random.Random,
        computed: Computed,
    ) -> None:
        self.name, self.incarnation, self._clock = name, incarnation, clock
        self.hangs = False
        self.device, self.host = Arena(DEVICE_STATES * STATE_BYTES), Arena(HOST_STATES * STATE_BYTES)
        self.model = EmulatedChunkModel(
            FLEET, "h100", lambda _: None, passes_per_chunk=PASSES_PER_CHUNK, state_share=STATE_SHARE, words_read=16
        )
        self.model.bind(self.device.memory)
        self.inbox = Inbox(lambda: None)
        self.outbox = Outbox(lambda: None, lambda: None)
        self.table = SessionTable(self.device.blocks, self.host.blocks, incarnation=incarnation, lanes_max=2)
        self.seats = Seats(BATCH_MAX)
        self.lanes = SimulatedLanes(self.device, self.inbox.tell, self.seats.head_of)
        self.copies = SimulatedCopies(chance)
        self._delivery = SimulatedDelivery(
            self.outbox, self._undelivered, self._named, lambda *told: computed(self, *told)
        )
        parts = Parts(
            table=self.table,
            seats=self.seats,
            model=self.model,
            passes=Passes(self.model),
            device=self.device,
            host=self.host,
            lanes=self.lanes,
            copies=self.copies,
            delivery=self._delivery,
            say=self._say,
            tell=self._tell,
        )
        hands = Hands(parts)
        self.hearing = Hearing(parts, hands, Lease(length_s=LEASE_S), SESSIONS_MAX, self._tell_all)
        self._compute = Compute(parts, hands, self.hearing, self.inbox, self.outbox, drain_s=1.0, clock=clock)
        self._beat_s = 0.0
        self.outbox.say(self._hello())

    @property
    def is_leased(self) -> bool:
        return self.hearing.lease.holds(self._clock())

    @property
    def serves(self) -> set[SessionId]:
        """Whose chunks it may compute, as far as it knows."""
        if self.hangs or not self.is_leased:
            return set()
        records = self.table.records.values()
        return {r.session_id for r in records if r.state in SERVES and not self._delivery.has_failed(r.session_id)}

    def hear(self, messages: list[Message]) -> list[Message]:
        """Those for which there is no room."""
        for at, message in enumerate(messages):
            if not self.inbox.offer(message):
                return messages[at:]
        return []

    def turn(self) -> None:
        self.inbox.wake()
        self._compute.turn(begins=True)

    def beat(self) -> None:
        """A heartbeat, if one is due."""
        now_s, pulse = self._clock(), self._compute.pulse
        if now_s < self._beat_s:
            return
        self._beat_s = now_s + HEARTBEAT_S
        heartbeat = Heartbeat(
            worker=self.name,
            incarnation=self.incarnation,
            controller_epoch=pulse.controller_epoch,
            sent_s=now_s,
            turn=pulse.turn,
            turn_age_s=max(0.0, now_s - pulse.begun_s),
            leased=pulse.leased,
            dropped=0,
            chunks=pulse.chunks,  # how long computing takes is nothing here: no time goes by meanwhile
        )
        self.outbox.say(heartbeat)

    def lose(self, session_id: SessionId) -> None:
        """The device has failed for this session."""
        self.inbox.tell(StateLost(session_id=session_id, reason="the device has failed"))

    def frames(self, peer: Peer) -> list[bytes]:
        """All that a socket would take."""
        found = list[bytes]()
        while (frame := self.outbox.next_for(peer)) is not None:
            found.append(frame)
            self.outbox.taken_for(peer)
        return found

    def _say(self, report: Report) -> None:
        epoch = self.table.controller_epoch
        self.outbox.say(Said(worker=self.name, incarnation=self.incarnation, controller_epoch=epoch, report=report))

    def _tell(self, report: StreamReport) -> None:
        epoch = self.table.controller_epoch
        self.outbox.tell(Told(worker=self.name, incarnation=self.incarnation, controller_epoch=epoch, report=report))

    def _undelivered(self, report: Undelivered) -> None:
        self._say(report)
        self._tell(report)

    def _named(self, key: ChunkKey, ownership: int) -> Delivered:
        session_id, lineage, number = key
        return Delivered(
            worker=self.name,
            incarnation=self.incarnation,
            controller_epoch=self.table.controller_epoch,
            session_id=session_id,
            ownership=ownership,
            lineage=lineage,
            number=number,
            encoding="none",
            body=b"",
        )

    def _hello(self) -> Hello:
        room = ProfileRoom(name="a", state_bytes=STATE_BYTES, chunk_s=1.0, sessions_max=DEVICE_STATES)
        return Hello(
            protocol=PROTOCOL,
            worker=self.name,
            incarnation=self.incarnation,
            revision=self.model.revision,
            profiles=(room,),
            device_bytes=self.device.blocks.total_bytes,
            host_bytes=self.host.blocks.total_bytes,
            coalesce_max=BATCH_MAX,
            ways=("tcp",),
            sent_s=self._clock(),
        )

    def _tell_all(self, question: int) -> None:
        inventory = Inventory(
            question=question,
            controller_epoch=self.table.controller_epoch,
            hello=self._hello(),
            leased=self.is_leased,
            lanes=self.table.lanes,
            device=Memory.of(self.device.blocks.room),
            host=Memory.of(self.host.blocks.room),
            sessions=self.hearing.held(),
        )
        self.outbox.say(inventory)
