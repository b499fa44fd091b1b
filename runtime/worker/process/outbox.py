"""What waits to be sent: reports to the controller, chunks to the gateway.

Decides how many chunks of a session may be on their way, and when no more reports should be asked for; must never know
a socket. A chunk is on its way from the moment when it is computed until a socket has taken it or it is given up.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from runtime.worker.process.messages import Delivered, FromWorker, encoded
from scheduler.cluster import SessionId

CHUNKS_MAX = 2  # of one session, on their way
REPORTS_MAX = 4096  # while as many wait, no more messages are taken from the controller

ChunkKey = tuple[SessionId, int, int]  # session, lineage, number


class Outbox:
    """Any thread puts in, one takes out. `wake` tells that one; `sent` is called when a chunk is no more on its way."""

    def __init__(self, wake: Callable[[], None], sent: Callable[[], None]) -> None:
        self._wake, self._sent = wake, sent
        self._lock = threading.Lock()
        self._reports: deque[bytes] = deque()
        self._chunks: deque[tuple[ChunkKey, bytes]] = deque()
        self._under_way: dict[ChunkKey, int] = {}  # ownership epoch
        self._counts: Counter[SessionId] = Counter()

    def say(self, message: FromWorker) -> None:
        frame = encoded(message)
        with self._lock:
            self._reports.append(frame)
        self._wake()

    @property
    def is_crowded(self) -> bool:
        return len(self._reports) >= REPORTS_MAX

    def computed(self, key: ChunkKey, ownership: int) -> None:
        """The chunk exists, and somebody will deliver it or give it up."""
        with self._lock:
            assert key not in self._under_way, f"{key} is on its way already"
            self._under_way[key] = ownership
            self._counts[key[0]] += 1

    def ownership(self, key: ChunkKey) -> int:
        """In which the chunk was computed."""
        with self._lock:
            return self._under_way[key]

    def may_compute(self, session_id: SessionId) -> bool:
        """Whether the session's next chunk would not be one too many."""
        with self._lock:
            return self._counts[session_id] < CHUNKS_MAX

    def has_chunks(self, session_id: SessionId) -> bool:
        """Whether a chunk of it is on its way."""
        with self._lock:
            return self._counts[session_id] > 0

    @property
    def is_empty(self) -> bool:
        """Nothing waits for a socket."""
        with self._lock:
            return not (self._reports or self._chunks)

    def deliver(self, chunk: Delivered) -> None:
        frame = encoded(chunk)
        with self._lock:
            self._chunks.append(((SessionId(chunk.session_id), chunk.lineage, chunk.number), frame))
        self._wake()

    def given_up(self, key: ChunkKey) -> None:
        """Nobody will get the chunk."""
        self._end(key)

    def report(self) -> bytes | None:
        """The next one, which stays until `report_sent`."""
        with self._lock:
            return self._reports[0] if self._reports else None

    def report_sent(self) -> None:
        with self._lock:
            self._reports.popleft()

    def chunk(self) -> bytes | None:
        """The next one, which stays until `chunk_sent`."""
        with self._lock:
            return self._chunks[0][1] if self._chunks else None

    def chunk_sent(self) -> None:
        with self._lock:
            key, _ = self._chunks.popleft()
        self._end(key)

    def _end(self, key: ChunkKey) -> None:
        with self._lock:
            if self._under_way.pop(key, None) is not None:
                self._counts[key[0]] -= 1
                if not self._counts[key[0]]:
                    del self._counts[key[0]]
        self._sent()
