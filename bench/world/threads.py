"""What threads of a worker do, when the world says so: lanes that copy states to another worker, copies, delivery.

Decides nothing: the world decides when each goes on, and whether it fails.
"""

from __future__ import annotations

import random
import threading
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from runtime.chunk_models.chunk_model import Chunk, ChunkProfile
from runtime.encode.limits import Limits
from runtime.state.arena import Arena
from runtime.state.checksum import GranuleSums
from runtime.state.copying import Busy, Copy
from runtime.state.ranges import Ranges
from runtime.transfer.attempt import (
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
from runtime.transfer.lanes import Lanes
from runtime.transfer.messages import AttemptId
from runtime.worker.messages import Undelivered
from runtime.worker.process.carried import Carried
from runtime.worker.process.delivery import Delivery
from runtime.worker.process.messages import Delivered
from runtime.worker.process.outbox import ChunkKey, Outbox
from scheduler.cluster import SessionId


@dataclass
class Lane:
    """One side of an attempt."""

    opened: OpenSending | OpenReceiving
    memory: Tensor
    rounds: deque[SendRound] = field(default_factory=deque)


class SimulatedLanes(Lanes):
    """Lanes without threads."""

    def __init__(self, arena: Arena, tell: Callable[[LaneEvent], None], head_of: Callable[[SessionId], bytes]) -> None:
        self._arena, self._tell, self._head_of = arena, tell, head_of
        self.open: dict[AttemptId, Lane] = {}

    def act(self, action: LaneAction) -> None:
        match action:
            case OpenSending() | OpenReceiving():
                assert action.attempt not in self.open, f"attempt {action.attempt} has a lane"
                self.open[action.attempt] = Lane(action, self._arena.view(action.block))
                if isinstance(action, OpenReceiving):
                    self._tell(Listening(attempt=action.attempt, route=action.route))
            case SendRound() if action.attempt in self.open:
                self.open[action.attempt].rounds.append(action)
            case StopLane():
                self.end(action.attempt)
            case _:
                """The lane has ended by itself."""

    def end(self, attempt: AttemptId, failure: str | None = None) -> None:
        if self.open.pop(attempt, None) is not None:
            if failure is not None:
                self._tell(LaneFailed(attempt=attempt, reason=failure))
            self._tell(LaneEnded(attempt=attempt))

    def send_to(self, other: SimulatedLanes, attempt: AttemptId, *, flip: bool) -> None:
        """The next round goes to the other side; `flip`: and arrives with a wrong checksum, if it is the last."""
        ours, theirs = self.open[attempt], other.open[attempt]
        sent = ours.rounds.popleft()
        for start, end in sent.ranges:
            theirs.memory[start:end] = ours.memory[start:end]
        if not sent.last:
            self._tell(RoundSent(attempt=attempt, number=sent.number))
            return
        digest = zlib.crc32(ours.memory.numpy().tobytes())
        head = self._head_of(ours.opened.session_id)
        self._tell(RoundSent(attempt=attempt, number=sent.number, digest=digest))
        self.end(attempt)
        if flip:
            other.end(attempt, "wrong checksum")
            return
        other._tell(Arrived(attempt=attempt, digest=zlib.crc32(theirs.memory.numpy().tobytes()), head=head))
        other.end(attempt)


class SimulatedCopy:
    """A copy that is done when the world says so."""

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self._source, self._target, self._done = source, target, False

    def finish(self) -> None:
        self._target.copy_(self._source)
        self._done = True

    def done(self) -> bool:
        return self._done

    def wait(self, seconds: float) -> bool:  # noqa: ARG002 - nothing waits here
        return self._done

    def wait_layer(self, index: int, seconds: float) -> bool:  # noqa: ARG002 - nor for a layer
        return self._done


class SimulatedCopies:
    """Copies without threads; now and then there is no room for one more."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self.busy_chance = chance, 0.1
        self.under_way: list[SimulatedCopy] = []

    def begin(
        self,
        source: Tensor,
        target: Tensor,
        layers: Ranges,  # noqa: ARG002 - all of it is copied at once
        sums: GranuleSums | None = None,  # noqa: ARG002 - the world compares whole states
    ) -> Copy | Busy:
        if self._chance.random() < self.busy_chance:
            return Busy(copies_max=len(self.under_way))
        copy = SimulatedCopy(source, target)
        self.under_way.append(copy)
        return copy

    def close(self) -> None:
        """Nothing waits."""


class SimulatedDelivery(Delivery):
    """Chunks as they are, without the encode thread; `computed` hears of each and says whether it can be encoded."""

    def __init__(
        self,
        outbox: Outbox,
        say: Callable[[Undelivered], None],
        named: Callable[[ChunkKey, int], Delivered],
        computed: Callable[[Chunk, Carried, int], bool],
    ) -> None:
        self._outbox, self._say, self._named, self._computed = outbox, say, named, computed
        self._limits, self._full, self._lock = Limits(), {}, threading.Lock()
        self._failed: set[SessionId] = set()

    def completed(self, chunk: Chunk, carried: Carried, profile: ChunkProfile, ownership: int) -> None:
        if self._computed(chunk, carried, ownership):
            super().completed(chunk, carried, profile, ownership)
            return
        session_id = SessionId(chunk.session)
        self._outbox.computed((session_id, chunk.lineage, chunk.number), ownership)
        self._failed.add(session_id)
        self._undelivered(session_id, chunk.lineage, chunk.number, 1, "the encoder has failed")

    def want_key_frame(self, session_id: SessionId) -> None:
        """Every chunk is one."""

    def left(self, session_id: SessionId) -> None:
        self._failed.discard(session_id)
