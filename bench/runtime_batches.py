"""What coalescing gains: chunks of several sessions in shared passes, against the same sessions one by one.

Decides batches, repetitions and the gate; must never know how a pass is computed. Both ways take turns in one run, with
one thread, and so does a joiner, who comes while the others are in their first pass.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from statistics import median

from bench.result import BenchResult, Cell, Gate, Size
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.weights import load_bundled
from runtime.measure.batches import BatchTimes, batch_times, fixed_and_each_ms
from runtime.measure.migrations import device

_BATCHES: Mapping[Size, tuple[int, ...]] = {"small": (1, 2, 4), "standard": (1, 2, 3, 4, 6, 8, 12, 16)}
_REPETITIONS: Mapping[Size, int] = {"small": 5, "standard": 30}
_NOISE: Mapping[Size, float] = {"small": 0.15, "standard": 0.05}  # small runs beside other work


def run(size: Size) -> BenchResult:
    """Every profile of the bundled network."""
    model = TransformerChunkModel(load_bundled(), device())
    found = batch_times(model, device(), _BATCHES[size], _REPETITIONS[size])
    fits = {name: _fit([times for times in found if times.profile == name]) for name in {t.profile for t in found}}
    settings: dict[str, Cell] = {
        "size": size,
        "device": device(),
        "repetitions": _REPETITIONS[size],
        "load at the end": os.getloadavg()[0],
    }
    rows = tuple(_row(times, *fits[times.profile]) for times in found)
    return BenchResult(name="runtime-batches", settings=settings, rows=rows, gates=(_gate(size, found),))


def _row(times: BatchTimes, fixed_ms: float, each_ms: float) -> dict[str, Cell]:
    together = [each.together_s for each in times.rounds]
    alone = [each.one_by_one_s for each in times.rounds]
    joins = times.rounds if times.sessions > 1 else ()
    return {
        "profile": times.profile,
        "sessions": times.sessions,
        "chunk ms p50": 1000 * median(together),
        "min": 1000 * min(together),
        "max": 1000 * max(together),
        "one by one ms p50": 1000 * median(alone),
        "its min": 1000 * min(alone),
        "its max": 1000 * max(alone),
        "chunks/s": times.sessions / median(together),
        "gain p50": _gain(times),
        "fit ms": fixed_ms + each_ms * times.sessions,
        "fit fixed ms": fixed_ms,
        "fit each ms": each_ms,
        "joiner waits ms p50": 1000 * median(each.joined_s for each in joins) if joins else None,
        "its max ms": 1000 * max(each.joined_s for each in joins) if joins else None,
        "instead of ms p50": 1000 * median(each.chunk_before_s for each in joins) if joins else None,
    }


def _gain(times: BatchTimes) -> float:
    """Of each pair of neighbours in time, so that what else the machine does is in both."""
    return median(each.one_by_one_s / each.together_s for each in times.rounds)


def _fit(found: Sequence[BatchTimes]) -> tuple[float, float]:
    medians = [median(each.together_s for each in times.rounds) for times in found]
    return fixed_and_each_ms([times.sessions for times in found], medians)


def _gate(size: Size, found: Sequence[BatchTimes]) -> Gate:
    worst = min((times for times in found if times.sessions > 1), key=_gain)
    return Gate(
        claim=f"two and more sessions are never slower together than one by one (noise {_NOISE[size]:.0%})",
        ok=_gain(worst) >= 1 - _NOISE[size],
        measured=f"{_gain(worst):.2f} times as fast ({worst.sessions} of {worst.profile})",
    )
