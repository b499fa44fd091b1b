"""What workers tell of rounds and chunks, added up over a control epoch.

Decides what counts, once each, and which lines that makes; must never know when an epoch ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.recording.events import ChunksMeasured, RoundsMeasured
from runtime.worker.process.messages import Computed, Heartbeat
from scheduler.fleet import Fleet

SECONDS_MAX = 1e6  # of one round or chunk: what is longer, negative or no number is not believed
SUM_MAX = 1e9  # of an epoch: readers believe no more
ENTRIES_MAX = 65_536  # contents, and profiles with batch sizes, of all workers in one epoch

Content = tuple[tuple[str, int], ...]


@dataclass(slots=True)
class _Chunks:
    chunks: int = 0
    late: int = 0
    seconds: float = 0.0
    seconds_max: float = 0.0


@dataclass(slots=True)
class Once:
    """Each heartbeat counts once, whoever says it again or late."""

    _said: dict[str, tuple[int, float]] = field(default_factory=dict)  # incarnation and send time, by worker

    def is_new(self, heartbeat: Heartbeat) -> bool:
        said = (heartbeat.incarnation, heartbeat.sent_s)
        new = said > self._said.get(heartbeat.worker, (-1, 0.0))
        if new:
            self._said[heartbeat.worker] = said
        return new


class Tally:
    """Of the workers of one fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self._target_s = {name: fleet.target_ms(name) / 1000 for name in fleet.profiles}
        self._rounds: dict[tuple[str, Content], tuple[float, float]] = {}
        self._chunks: dict[tuple[str, str, int], _Chunks] = {}

    def add(self, gpu_id: str, computed: Computed) -> None:
        for each in computed.rounds:
            key = gpu_id, each.content
            if believed(each.rounds, each.seconds) and self._has_room(self._rounds, key):
                rounds, seconds = self._rounds.get(key, (0.0, 0.0))
                self._rounds[key] = (rounds + each.rounds, seconds + each.seconds)
        for told in computed.chunks:
            place = gpu_id, told.profile, told.batch
            target_s = self._target_s.get(told.profile)
            if target_s is None or not self._has_room(self._chunks, place):
                continue
            total = self._chunks.setdefault(place, _Chunks())
            for one_s in told.seconds:
                if believed(1.0, one_s):
                    total.chunks += 1
                    total.late += one_s > target_s
                    total.seconds += one_s
                    total.seconds_max = max(total.seconds_max, one_s)

    def lines(self, t_s: float) -> list[RoundsMeasured | ChunksMeasured]:
        """Of all since the last time, by GPU."""
        rounds, self._rounds = self._rounds, {}
        chunks, self._chunks = self._chunks, {}
        return [
            *(
                RoundsMeasured(t_s=t_s, gpu_id=gpu_id, content=dict(content), rounds=_sum(count), seconds=_sum(seconds))
                for (gpu_id, content), (count, seconds) in sorted(rounds.items())
            ),
            *(
                ChunksMeasured(
                    t_s=t_s,
                    gpu_id=gpu_id,
                    profile=profile,
                    batch=batch,
                    chunks=total.chunks,
                    late=total.late,
                    seconds=_sum(total.seconds),
                    seconds_max=round(total.seconds_max, 6),
                )
                for (gpu_id, profile, batch), total in sorted(chunks.items())
            ),
        ]

    def _has_room(
        self, entries: dict[tuple[str, Content], tuple[float, float]] | dict[tuple[str, str, int], _Chunks], key: object
    ) -> bool:
        return key in entries or len(entries) < ENTRIES_MAX


def _sum(value: float) -> float:
    return round(min(value, SUM_MAX), 6)


def believed(rounds: float, seconds: float) -> bool:
    """Whether a worker's figures are such as can be; comparisons with what is no number are false."""
    return 0 < rounds < SECONDS_MAX and 0 <= seconds < SECONDS_MAX
