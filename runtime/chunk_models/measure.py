"""How long a ChunkModel takes on this device: the tables that a fleet file has.

Decides what is run and which of the times count; must never know which ChunkModel it measures, nor where figures go.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from runtime.chunk_models.chunk_model import ChunkModel, ChunkProfile, Head, Seat, advanced

CHUNKS_BEFORE = 5  # of each session, so that caches hold what they hold later on
COPY_BYTES = 2**26
COPIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One batch of one profile."""

    profile: str
    batch: int
    median_ms: float  # of a chunk: all its passes
    fastest_ms: float
    slowest_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: batches of 1 to `batch_max` sessions, `repeats` chunks each after one that does not count."""

    batch_max: int
    repeats: int

    @property
    def chunks_per_profile(self) -> int:
        return CHUNKS_BEFORE + self.batch_max * (1 + self.repeats)


def measure(
    model: ChunkModel,
    device: torch.device,
    plan: Plan,
    clock_s: Callable[[], float],
    heard: Callable[[str, int], None] = lambda _profile, _batch: None,
) -> list[Latency]:
    """Bind an arena and measure every profile; `heard` is told of each round of chunks before it is run."""
    largest = max(profile.state_bytes for profile in model.profiles.values())
    model.bind(torch.zeros(largest * plan.batch_max, dtype=torch.uint8, device=device))
    model.warm_up()
    found = []
    for profile in model.profiles.values():
        seats = filled(model, profile, plan.batch_max, partial(heard, profile.name, plan.batch_max))
        for batch in range(1, plan.batch_max + 1):
            times_ms = []
            for _ in range(1 + plan.repeats):
                heard(profile.name, batch)
                begun_s = clock_s()
                seats[:batch] = chunk_of_all(model, seats[:batch])
                times_ms.append((clock_s() - begun_s) * 1000)
            found.append(_latency(profile.name, batch, times_ms[1:]))
    return found


def table_ms(found: list[Latency], profile: str) -> list[float]:
    """Medians by batch; what a larger batch does by luck in less time counts as the smaller one's."""
    table: list[float] = []
    for one in sorted((one for one in found if one.profile == profile), key=lambda one: one.batch):
        table.append(max([one.median_ms, *table[-1:]]))
    return table


def copy_gb_s(device: torch.device, clock_s: Callable[[], float]) -> float:
    """Gigabytes (1e9 bytes) per second between the device and host memory, the median of some copies."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros(COPY_BYTES, dtype=torch.uint8, pin_memory=device.type == "cuda")
    times_s = []
    for _ in range(1 + COPIES):
        begun_s = clock_s()
        target.copy_(source)
        times_s.append(clock_s() - begun_s)
    return COPY_BYTES / statistics.median(times_s[1:]) / 1e9


def filled(
    model: ChunkModel, profile: ChunkProfile, count: int, heard: Callable[[], object] = lambda: None
) -> list[Seat]:
    """Sessions that have been running for a while; `heard` is told of each round of chunks before it is run."""
    seats = []
    for index in range(count):
        head = Head(session=str(index), profile=profile.name, seed=index, prompt="", revision=model.revision)
        seats.append(Seat(head=head, offset=index * profile.state_bytes))
        model.open(seats[-1])
    for _ in range(CHUNKS_BEFORE):
        heard()
        seats = chunk_of_all(model, seats)
    return seats


def chunk_of_all(model: ChunkModel, seats: Sequence[Seat]) -> list[Seat]:
    """A chunk of each in shared passes, and where they are after it."""
    for _ in range(model.passes_per_chunk):
        model.run_pass(seats)
    return [after_chunk(seat) for seat in seats]


def after_chunk(seat: Seat) -> Seat:
    return Seat(head=advanced(seat.head), offset=seat.offset)


def _latency(profile: str, batch: int, times_ms: list[float]) -> Latency:
    return Latency(
        profile=profile,
        batch=batch,
        median_ms=statistics.median(times_ms),
        fastest_ms=min(times_ms),
        slowest_ms=max(times_ms),
    )
