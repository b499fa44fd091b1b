"""Times of chunks of several sessions together, of the same sessions one by one, and what a joiner waits.

Decides what is run and timed, and in which order; must never know what a good time is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from runtime.chunk_models.chunk_model import ChunkModel, ChunkProfile, Seat
from runtime.chunk_models.measure import after_chunk, chunk_of_all, filled
from runtime.measure.timing import timed


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Chunks of the same sessions, made in three ways one after the other."""

    together_s: float  # in shared passes
    one_by_one_s: float  # each in passes of its own
    joined_s: float  # the pass that a joiner had to wait for
    chunk_before_s: float  # the chunk that it would have had to wait for if it could not join


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTimes:
    """So many sessions of a profile, several times."""

    profile: str
    sessions: int
    rounds: Sequence[Round]


def batch_times(model: ChunkModel, on: str, batches: Sequence[int], repetitions: int) -> tuple[BatchTimes, ...]:
    """Every profile; the batches take turns, so that all of them see the same machine."""
    torch.set_num_threads(1)
    largest = max(profile.state_bytes for profile in model.profiles.values())
    model.bind(torch.zeros(largest * max(batches), dtype=torch.uint8, device=on))
    model.warm_up()
    return tuple(
        times for profile in model.profiles.values() for times in _of_profile(model, profile, batches, repetitions)
    )


def fixed_and_each_ms(batches: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Least squares of fixed + each * sessions."""
    each, fixed = np.polyfit(batches, np.multiply(seconds, 1000), 1)
    return float(fixed), float(each)


def _of_profile(
    model: ChunkModel, profile: ChunkProfile, batches: Sequence[int], repetitions: int
) -> tuple[BatchTimes, ...]:
    seats = filled(model, profile, max(batches))
    found: dict[int, list[Round]] = {batch: [] for batch in batches}
    for _ in range(repetitions + 1):
        for batch in batches:
            measured, seats[:batch] = _round(model, seats[:batch])
            found[batch].append(measured)
    return tuple(  # the first is warm-up
        BatchTimes(profile=profile.name, sessions=batch, rounds=found[batch][1:]) for batch in batches
    )


def _round(model: ChunkModel, seats: list[Seat]) -> tuple[Round, list[Seat]]:
    together_s = timed(lambda: chunk_of_all(model, seats))
    second = [after_chunk(seat) for seat in seats]
    one_by_one_s = timed(lambda: [chunk_of_all(model, [seat]) for seat in second])
    third = [after_chunk(seat) for seat in second]
    joined_s, chunk_before_s = _join(model, third)
    measured = Round(together_s=together_s, one_by_one_s=one_by_one_s, joined_s=joined_s, chunk_before_s=chunk_before_s)
    return measured, [after_chunk(seat) for seat in third]


def _join(model: ChunkModel, seats: list[Seat]) -> tuple[float, float]:
    """A chunk of each; the last seat comes just after the others have begun their first pass.

    Seconds until it takes part, and until the others' chunks are complete.
    """
    others, joiner = seats[:-1], seats[-1:]
    first_s = timed(lambda: model.run_pass(others))
    rest_s = sum(timed(lambda: model.run_pass(seats)) for _ in range(model.passes_per_chunk - 1))
    model.run_pass(joiner)
    return first_s, first_s + rest_s
