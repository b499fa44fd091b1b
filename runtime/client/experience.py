"""What whoever watches a session has felt: waiting, latency, stalls, breaks.

Decides what is counted and from when; must never know a connection. Time is an argument, in seconds of any clock that
only grows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runtime.client.messages import Chunk, Event, Lost, Started, State
from runtime.gateway.playout import Playout

LATENCIES_MAX = 100_000  # the newest so many count


@dataclass(frozen=True, slots=True, kw_only=True)
class Felt:
    """Latencies are those of chunks that may come; None: there was none, or chunks do not say how long they play."""

    chunks: int
    bytes: int
    play_s: float
    discontinuities: int
    gaps: int
    reconnects: int
    first_chunk_s: float | None  # from the beginning
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    latency_max_ms: float | None
    stalls: int
    stall_s: float


class Experience:
    """Of one client, from `now_s` on.

    A chunk's latency runs from when it may come (the session is active, the one before has come, and fewer than `ahead`
    are unacknowledged) until it has come. A stall is a time in which all that has come has been shown (`Playout`).
    """

    def __init__(self, now_s: float) -> None:
        self._began_s = now_s
        self._first_s: float | None = None
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES_MAX)
        self._may_come_s: float | None = None
        self._ahead, self._next, self._taken = 1, 0, 0
        self._active = self._paused = False
        self._playout = Playout()
        self.chunks = self._bytes = self._discontinuities = self._gaps = self._reconnects = self._stalls = 0
        self.play_s = self._stall_s = 0.0

    def heard(self, event: Event, now_s: float) -> None:
        match event:
            case Started():
                self._ahead, self._next, self._taken = event.ahead, event.from_seq, event.from_seq
                self._ask(now_s)
            case State():
                self._active = event.state == "active"
                self._ask(now_s)
            case Lost():
                self._reconnects += 1
                self._may_come_s = None
            case Chunk():
                self._came(event, now_s)
            case _:
                pass

    def acked(self, seq: int, now_s: float) -> None:
        """All up to there have been taken."""
        self._taken = max(self._taken, seq + 1)
        self._ask(now_s)

    def pauses(self, now_s: float, *, paused: bool) -> None:
        """Nobody watches for now, or somebody does again."""
        self._paused = paused
        self._playout.stops()
        self._ask(now_s)

    @property
    def shown_until_s(self) -> float | None:
        """When all that has come will have been shown; None: nothing is."""
        return self._playout.ends_s

    def felt(self) -> Felt:
        latencies_s = sorted(self._latencies_s)
        return Felt(
            chunks=self.chunks,
            bytes=self._bytes,
            play_s=self.play_s,
            discontinuities=self._discontinuities,
            gaps=self._gaps,
            reconnects=self._reconnects,
            first_chunk_s=self._first_s,
            latency_p50_ms=_quantile_ms(latencies_s, 0.5),
            latency_p99_ms=_quantile_ms(latencies_s, 0.99),
            latency_max_ms=_quantile_ms(latencies_s, 1.0),
            stalls=self._stalls,
            stall_s=self._stall_s,
        )

    def _ask(self, now_s: float) -> None:
        """Whether the next chunk may come, and since when."""
        may_come = self._active and not self._paused and self._next - self._taken < self._ahead
        if not may_come:
            self._may_come_s = None
        elif self._may_come_s is None:
            self._may_come_s = now_s

    def _came(self, chunk: Chunk, now_s: float) -> None:
        if self._first_s is None:
            self._first_s = now_s - self._began_s
        elif self._may_come_s is not None:
            self._latencies_s.append(now_s - self._may_come_s)
        self.chunks += 1
        self._bytes += len(chunk.init) + len(chunk.body)
        self._discontinuities += chunk.discontinuity
        self._gaps += chunk.gap
        if chunk.play_s is not None and not self._paused:
            stalled_s = self._playout.came(chunk.play_s, now_s)
            self._stalls, self._stall_s = self._stalls + (stalled_s > 0), self._stall_s + stalled_s
        self.play_s += chunk.play_s or 0.0
        self._next, self._may_come_s = chunk.seq + 1, None
        self._ask(now_s)


def _quantile_ms(sorted_s: list[float], share: float) -> float | None:
    """The smallest that so large a share does not exceed."""
    if not sorted_s:
        return None
    return 1000 * sorted_s[max(0, -int(-len(sorted_s) * share // 1) - 1)]
