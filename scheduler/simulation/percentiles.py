"""Percentiles by nearest rank, of values that occur many times each.

Decides what a percentile is; must never know of what.
"""

from __future__ import annotations

from collections.abc import Mapping

from scheduler.simulation.outcome import Percentiles

Counts = Mapping[int, int] | Mapping[float, int]  # how often each value occurs


def nearest_rank(counts: Counts, percents: tuple[int, ...]) -> list[float]:
    """For each percentage the smallest value that at least that share of all does not exceed; 0 where there is none."""
    total = sum(counts.values())
    if not total:
        return [0.0] * len(percents)
    ranks = [max(1, -(-percent * total // 100)) for percent in percents]
    found: list[float] = []
    seen = 0
    for value, count in sorted(counts.items()):
        seen += count
        while len(found) < len(ranks) and seen >= ranks[len(found)]:
            found.append(float(value))
    return found


def percentiles(counts: Counts) -> Percentiles:
    p50, p95, p99, most = nearest_rank(counts, (50, 95, 99, 100))
    return Percentiles(p50=p50, p95=p95, p99=p99, max=most)
