"""What migrations do to the sessions that stay: times of neighbours' chunks while nothing moves, and while states do.

Decides the phases and whose chunks count in which; must never know what a good time is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime.measure.migrations import Migration, TwoPeers
from runtime.transfer.messages import Side, Way

CHUNKS_MIN = 3  # of the neighbours of either side, in a phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """So many seconds on both workers."""

    seconds: float
    chunks_s: Mapping[Side, Sequence[float]]  # of the neighbours, all of which get a chunk at once
    migrations: Sequence[Migration]  # one after another; none in a quiet phase

    @property
    def moving_share(self) -> float:
        """Of the time, in which a state was on its way."""
        return sum(each.seconds for each in self.migrations) / self.seconds


def quiet_and_moving(
    peers: TwoPeers, size_bytes: int, way: Way, *, precopy: bool, seconds: float
) -> tuple[Phase, Phase]:
    """Two phases of at least so long, in a row. A session computes at the source in both; in the second one it is
    migrated again and again: a new one takes its place each time.
    """
    migrations: list[Migration] = []

    def move() -> None:
        migrations.append(peers.migrate(way, precopy=precopy))
        peers.close()
        peers.open(size_bytes)

    peers.open(size_bytes)
    quiet = _phase(peers, lambda: time.sleep(seconds / 4), seconds, [])
    moving = _phase(peers, move, seconds, migrations)
    peers.migrate(way, precopy=False)
    peers.close()
    return quiet, moving


def _phase(peers: TwoPeers, act: Callable[[], None], seconds: float, migrations: Sequence[Migration]) -> Phase:
    """Longer where that is too short for a few chunks. A chunk counts in the phase in which it ends."""
    peers.watched()
    begun_s = time.monotonic()
    chunks_s: dict[Side, list[float]] = {"source": [], "target": []}
    while time.monotonic() - begun_s < seconds or min(map(len, chunks_s.values())) < CHUNKS_MIN:
        act()
        for side, found in peers.watched().items():
            chunks_s[side] += found
    return Phase(seconds=time.monotonic() - begun_s, chunks_s=chunks_s, migrations=migrations)
