"""Recorded arrivals as a source: played again, thinned or multiplied to a wanted rate.

Decides what stays of a recording at another rate and length; must never know what arrives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from traces.demand import SECOND_US, Arrivals, ArrivalSource

_JITTER_US = 60 * SECOND_US  # how far the copies of an arrival stray, so that minute-scale bursts stay


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSource:
    """Arrivals that are repeated end to end; a lower rate keeps each with some chance, a higher one adds copies."""

    arrivals: Arrivals

    def draw(self, *, rate_per_s: float, length_us: int, before_us: int, rng: np.random.Generator) -> Arrivals:
        """As `ArrivalSource.draw`; the first copy of an arrival keeps its time, further ones follow within a minute."""
        recorded = self.arrivals
        first, last = -(-before_us // recorded.length_us), -(-length_us // recorded.length_us)
        tiles = np.arange(-first, last)
        times = (recorded.times_us[None, :] + tiles[:, None] * recorded.length_us).ravel()
        tenant = np.tile(recorded.tenant_index, len(tiles))
        span = recorded.times_us < (length_us if last == 1 else recorded.length_us)
        rate = span.sum() / (min(length_us, recorded.length_us) / SECOND_US)
        copies = rate_per_s / max(rate, 1e-12)
        count = np.floor(copies + rng.random(len(times))).astype(np.int64)
        source = np.repeat(np.arange(len(times)), count)
        extra = np.concatenate(([False], source[1:] == source[:-1]))[: len(source)]
        drawn = times[source] + np.where(extra, rng.integers(0, _JITTER_US, len(source)), 0)
        inside = (drawn >= -before_us) & (drawn < length_us)
        drawn, source = drawn[inside], source[inside]
        order = np.argsort(drawn, kind="stable")
        return Arrivals(
            name=recorded.name,
            length_us=length_us,
            times_us=drawn[order],
            tenant_index=tenant[source][order],
            tenants=recorded.tenants,
        )


def recorded(arrivals: Arrivals) -> ArrivalSource:
    """The usual way to make a source of a recording."""
    return RecordedSource(arrivals=arrivals)
