"""The thread that encodes what a worker has computed.

Decides nothing but how long a caller waits: it carries out what the table says. Must never know who reads the bytes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import assert_never

from runtime.encode.chunk import EncodedChunk, Encoder, EncoderError, FinishedChunk, RefusedError
from runtime.encode.events import (
    Action,
    ChunkEncoded,
    Closing,
    DeadlinePassed,
    Encode,
    EncodeFailed,
    Event,
    KeyFrameWanted,
    Left,
    LetGo,
    Offered,
    Refused,
    Report,
    Stop,
    Taken,
    Tell,
)
from runtime.encode.kinds import OpenEncoder, open_encoder
from runtime.encode.limits import Limits
from runtime.encode.table import EncodeTable
from scheduler.cluster import SessionId

OFFER_WAIT_S_MAX = 1.0  # that the compute thread may spend on room
LAST_CHUNK_S = 2.0  # for the chunk in progress, when the deadline for closing has passed
IDLE_WAIT_S = 60.0  # after which the thread looks again, unasked

Work = Encode | LetGo | Tell | Stop


class EncodeThread:
    """Takes chunks from any thread; one thread encodes them and calls `sink` and `tell`.

    Neither may raise. A slow sink holds encoding up, and so fills the queue: callers of `offer` hear of that.
    """

    def __init__(
        self,
        sink: Callable[[EncodedChunk], None],
        tell: Callable[[Report], None],
        *,
        limits: Limits | None = None,
        opened: OpenEncoder = open_encoder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink, self._tell, self._open, self._clock = sink, tell, opened, clock
        self._table = EncodeTable(limits or Limits())
        self._work: deque[Work] = deque()  # at most one chunk, and a few words for each that was taken
        self._news = threading.Condition()
        self._ended = False
        self._encoders: dict[SessionId, Encoder] = {}
        self._thread = threading.Thread(target=self._run, name="encode", daemon=True)
        self._thread.start()

    def offer(self, chunk: FinishedChunk, *, wait_s: float = 0.0) -> Refused | None:
        """Hand a chunk over: None if it was taken. While the queue is full, wait for room, but no longer than that."""
        assert 0 <= wait_s <= OFFER_WAIT_S_MAX, f"wait_s={wait_s} must be >= 0 and <= {OFFER_WAIT_S_MAX}"
        end_s = self._clock() + wait_s
        with self._news:
            while True:
                if self._ended:
                    return Refused(why="closing", reason="the encode thread has ended")
                answer, *rest = self._table.handle(Offered(chunk=chunk))
                if isinstance(answer, Taken):
                    self._put(rest)
                    return None
                assert isinstance(answer, Refused), f"{answer} does not answer an offer"
                left_s = end_s - self._clock()
                if answer.why != "full" or left_s <= 0:
                    return answer
                self._news.wait(left_s)

    def want_key_frame(self, session_id: SessionId) -> None:
        """The session's next chunk that is not yet begun shall begin with one."""
        self._hear(KeyFrameWanted(session_id=session_id))

    def leave(self, session_id: SessionId) -> None:
        """The session is closed or has moved away. What was taken of it is still encoded."""
        self._hear(Left(session_id=session_id))

    def close(self, *, drain_s: float) -> bool:
        """Take no more chunks, encode what waits for at most so long, and drop the rest, telling of each.

        Returns whether the thread has ended as it should. If not, it hangs in the sink or has died of an exception
        there, and the sink may or may not have got its last chunk.
        """
        self._hear(Closing())
        self._thread.join(drain_s)
        self._hear(DeadlinePassed())
        self._thread.join(LAST_CHUNK_S)
        with self._news:
            untold = [step.report for step in self._work if isinstance(step, Tell)]
            self._work = deque(step for step in self._work if not isinstance(step, Tell))
        for report in untold:
            self._tell(report)
        return self._ended and self._table.idle

    def _hear(self, event: Event) -> None:
        with self._news:
            self._put(self._table.handle(event))

    def _put(self, steps: Sequence[Action]) -> None:
        for step in steps:
            assert isinstance(step, Work), f"{step} is nobody's work"
            self._work.append(step)
        self._news.notify_all()

    def _run(self) -> None:
        try:
            while not isinstance(step := self._take(), Stop):
                self._do(step)
        finally:
            self._encoders.clear()
            with self._news:
                self._ended = True
                self._news.notify_all()

    def _take(self) -> Work:
        with self._news:
            while not self._work:
                self._news.wait(IDLE_WAIT_S)
            return self._work.popleft()

    def _do(self, step: Encode | LetGo | Tell) -> None:
        match step:
            case Encode():
                self._hear(self._encode(step))
            case LetGo():
                self._encoders.pop(step.session_id, None)
            case Tell():
                self._tell(step.report)
            case _:
                assert_never(step)

    def _encode(self, step: Encode) -> ChunkEncoded | EncodeFailed:
        chunk = step.chunk
        try:
            if step.fresh:
                self._encoders.pop(chunk.session_id, None)
                self._encoders[chunk.session_id] = self._open(chunk.form)
            encoded = self._encoders[chunk.session_id].encode(chunk, key_frame=step.key_frame)
        except (EncoderError, RefusedError) as error:
            return EncodeFailed(reason=str(error))
        self._sink(encoded)
        return ChunkEncoded()
