"""The way of a finished chunk: as it is or encoded, and into the outbox.

Decides whose chunks cannot be delivered and says so; must never know a socket, nor how a chunk was made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from msgspec.structs import replace

from runtime.chunk_models.chunk_model import Chunk, ChunkProfile
from runtime.encode.chunk import EncodedChunk, FinishedChunk, Form, refusal_of_form
from runtime.encode.events import Dropped, Report
from runtime.encode.kinds import OpenEncoder, kinds_here, open_encoder, refusal_of_kind
from runtime.encode.limits import Limits
from runtime.encode.thread import EncodeThread
from runtime.transfer.messages import REASON_MAX
from runtime.worker.messages import Undelivered
from runtime.worker.process.carried import Carried
from runtime.worker.process.messages import Delivered
from runtime.worker.process.outbox import ChunkKey, Outbox
from scheduler.cluster import SessionId


class Delivery:
    """Used by the compute thread; what is encoded comes back in the encode thread."""

    def __init__(
        self,
        outbox: Outbox,
        say: Callable[[Undelivered], None],
        named: Callable[[ChunkKey, int], Delivered],
        limits: Limits | None = None,
        opened: OpenEncoder = open_encoder,
    ) -> None:
        self._outbox, self._say, self._named = outbox, say, named
        self._limits = limits or Limits()
        self._encode = EncodeThread(self._encoded, self._heard, limits=self._limits, opened=opened)
        self._full: dict[SessionId, tuple[FinishedChunk, ...]] = {}  # for which the encode thread has no room yet
        self._lock = threading.Lock()
        self._failed: set[SessionId] = set()  # whose encoder has failed: nobody gets what they would compute

    def refusal(self, carried: Carried, profile: ChunkProfile) -> str | None:
        """Why a session's chunks could not be delivered as it wants; None if they can."""
        if carried.encoding == "none":
            return None
        form = Form(
            kind=carried.encoding,
            width=profile.width,
            height=profile.height,
            frames=profile.frames,
            frames_per_s=profile.frames_per_s,
            scale=carried.scale,
        )
        frames_bytes = profile.frames * profile.height * profile.width * 3
        if frames_bytes > self._limits.waiting_bytes_max:
            return f"a chunk has {frames_bytes} bytes of frames; waiting_bytes_max={self._limits.waiting_bytes_max}"
        return refusal_of_form(form) or refusal_of_kind(carried.encoding, kinds_here())

    def may_compute(self, session_id: SessionId) -> bool:
        """Whether there will be a place for the session's next chunk."""
        return self._outbox.may_compute(session_id) and session_id not in self._failed

    def has_failed(self, session_id: SessionId) -> bool:
        """Nobody will get a chunk of it any more: its encoder has failed."""
        return session_id in self._failed

    def has_chunks(self, session_id: SessionId) -> bool:
        """Whether chunks of it are on their way."""
        return self._outbox.has_chunks(session_id)

    @property
    def waits(self) -> bool:
        """For room in the encode thread."""
        return bool(self._full)

    def completed(self, chunk: Chunk, carried: Carried, profile: ChunkProfile, ownership: int) -> None:
        session_id = SessionId(chunk.session)
        key = (session_id, chunk.lineage, chunk.number)
        self._outbox.computed(key, ownership)
        if carried.encoding == "none":
            named = self._named(key, ownership)
            self._outbox.deliver(_with_frames(named, chunk))
            return
        finished = FinishedChunk(
            session_id=session_id,
            lineage=chunk.lineage,
            number=chunk.number,
            frames=chunk.frames,
            frames_per_s=profile.frames_per_s,
            kind=carried.encoding,
            scale=carried.scale,
        )
        self._full[session_id] = (*self._full.get(session_id, ()), finished)
        self.retry()

    def retry(self) -> None:
        """Offer again what had no room; a session's chunks in order."""
        for session_id, waiting in list(self._full.items()):
            while waiting:
                refused = self._encode.offer(waiting[0])
                if refused is not None and refused.why == "full":
                    break
                if refused is not None:
                    self._give_up(waiting[0], refused.reason)
                waiting = waiting[1:]
            if waiting:
                self._full[session_id] = waiting
            else:
                del self._full[session_id]

    def want_key_frame(self, session_id: SessionId) -> None:
        self._encode.want_key_frame(session_id)

    def left(self, session_id: SessionId) -> None:
        """The session is not here any more; what it has finished is still delivered."""
        self._encode.leave(session_id)
        with self._lock:
            self._failed.discard(session_id)

    def close(self, drain_s: float) -> bool:
        """Encode what waits. Whether the thread has ended as it should."""
        return self._encode.close(drain_s=drain_s)

    def _give_up(self, chunk: FinishedChunk, reason: str) -> None:
        self._undelivered(chunk.session_id, chunk.lineage, chunk.number, 1, reason)

    def _encoded(self, chunk: EncodedChunk) -> None:
        key = (chunk.session_id, chunk.lineage, chunk.number)
        named = self._named(key, self._outbox.ownership(key))
        self._outbox.deliver(_with_video(named, chunk))

    def _heard(self, report: Report) -> None:
        if isinstance(report, Dropped):
            self._undelivered(report.session_id, report.lineage, report.number, report.count, report.reason)
            return
        with self._lock:
            self._failed.add(report.session_id)
        # The chunk itself is told of as dropped, after this.

    def _undelivered(self, session_id: SessionId, lineage: int, number: int, count: int, reason: str) -> None:
        for dropped in range(number, number + count):
            self._outbox.given_up((session_id, lineage, dropped))
        self._say(
            Undelivered(session_id=session_id, lineage=lineage, number=number, count=count, reason=reason[:REASON_MAX])
        )


def _with_frames(named: Delivered, chunk: Chunk) -> Delivered:
    return replace(named, body=chunk.frames.tobytes(), shape=chunk.frames.shape)


def _with_video(named: Delivered, chunk: EncodedChunk) -> Delivered:
    return replace(named, encoding=chunk.kind, body=chunk.body, init=chunk.init, key_frame=chunk.key_frame)
