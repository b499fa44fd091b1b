"""What waits to be sent: reports to the controller; chunks and answers to the gateway, in one order.

Decides how many chunks of a session may be on their way, and when no more words should be asked for; must never know a
socket. A chunk is on its way from the moment when it is computed until a socket has taken it or it is given up.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from runtime.worker.process.messages import Delivered, FromWorker, Told, encoded
from scheduler.cluster import SessionId

CHUNKS_MAX = 2  # of one session, on their way
Peer = Literal["controller", "gateway"]
# While as many words wait for a peer, it is not listened to: each of its messages has one answer or a few. Words to the
# gateway that answer none of its messages are about chunks, and while it is crowded no chunk is begun.
WORDS_MAX: Mapping[Peer, int] = {"controller": 4096, "gateway": 256}

ChunkKey = tuple[SessionId, int, int]  # session, lineage, number


@dataclass(slots=True)
class _Line:
    """What waits for one peer. The key is that of a chunk; what has none is a word."""

    frames: deque[tuple[ChunkKey | None, bytes]] = field(default_factory=deque)
    words: int = 0


class Outbox:
    """Any thread puts in, one takes out. `wake` tells that one; `eased` is called when more may be computed again."""

    def __init__(
        self, wake: Callable[[], None], eased: Callable[[], None], words_max: Mapping[Peer, int] = WORDS_MAX
    ) -> None:
        self._wake, self._eased, self._words_max = wake, eased, words_max
        self._lock = threading.Lock()
        self._lines: dict[Peer, _Line] = {"controller": _Line(), "gateway": _Line()}
        self._under_way: dict[ChunkKey, int] = {}  # ownership epoch
        self._counts: Counter[SessionId] = Counter()

    def say(self, message: FromWorker) -> None:
        """To the controller."""
        self._put("controller", None, encoded(message))

    def tell(self, message: Told) -> None:
        """To the gateway."""
        self._put("gateway", None, encoded(message))

    def deliver(self, chunk: Delivered) -> None:
        self._put("gateway", (SessionId(chunk.session_id), chunk.lineage, chunk.number), encoded(chunk))

    def is_crowded(self, peer: Peer) -> bool:
        """So many words wait for it that nothing should be done that makes more."""
        return self._lines[peer].words >= self._words_max[peer]

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
            return self._counts[session_id] < CHUNKS_MAX and not self.is_crowded("gateway")

    def has_chunks(self, session_id: SessionId) -> bool:
        """Whether a chunk of it is on its way."""
        with self._lock:
            return self._counts[session_id] > 0

    @property
    def is_empty(self) -> bool:
        """Nothing waits for a socket."""
        with self._lock:
            return not any(line.frames for line in self._lines.values())

    def given_up(self, key: ChunkKey) -> None:
        """Nobody will get the chunk."""
        self._end(key)

    def next_for(self, peer: Peer) -> bytes | None:
        """It stays until `taken_for`."""
        with self._lock:
            frames = self._lines[peer].frames
            return frames[0][1] if frames else None

    def taken_for(self, peer: Peer) -> None:
        """A socket has taken what was next."""
        with self._lock:
            line, was_crowded = self._lines[peer], self.is_crowded(peer)
            key, _ = line.frames.popleft()
            line.words -= key is None
        if key is not None:
            self._end(key)
        elif was_crowded:
            self._eased()

    def _put(self, peer: Peer, key: ChunkKey | None, frame: bytes) -> None:
        with self._lock:
            line = self._lines[peer]
            line.frames.append((key, frame))
            line.words += key is None
        self._wake()

    def _end(self, key: ChunkKey) -> None:
        with self._lock:
            if self._under_way.pop(key, None) is not None:
                self._counts[key[0]] -= 1
                if not self._counts[key[0]]:
                    del self._counts[key[0]]
        self._eased()
