"""Chunks are timed together and one by one, and what a joiner waits is a pass."""

from __future__ import annotations

import time

import pytest

from runtime.chunk_models.emulated import EmulatedChunkModel
from runtime.measure.batches import batch_times, fixed_and_each_ms
from tests.builders import a_fleet
from tests.runtime.chunk_models.hosts import TINY_FLEET

CHUNK_MS = 60.0  # whatever the batch: coalescing costs nothing here
PASSES = 3
_TABLE = {"chunk_s": 1.0, "state_gib": 2**-16, "latency_ms": {"h100": [CHUNK_MS] * 4}}


def test_sessions_that_share_passes_cost_one_chunk_and_one_by_one_a_chunk_each() -> None:
    fleet = a_fleet(dict.fromkeys(TINY_FLEET, _TABLE))
    model = EmulatedChunkModel(fleet, "h100", time.sleep, passes_per_chunk=PASSES, state_share=1.0)
    found = batch_times(model, "cpu", (1, 3), 2)
    assert [(times.profile, times.sessions, len(times.rounds)) for times in found] == [
        (name, batch, 2) for name in model.profiles for batch in (1, 3)
    ]
    for times in found:
        for each in times.rounds:
            assert each.together_s >= CHUNK_MS / 1000
            assert each.one_by_one_s >= times.sessions * CHUNK_MS / 1000
            assert each.joined_s < each.chunk_before_s
    three = [min(each.together_s for each in times.rounds) for times in found if times.sessions == 3]
    assert max(three) < 2 * CHUNK_MS / 1000


def test_times_on_a_line_are_its_fixed_part_and_a_part_for_each_session() -> None:
    assert fixed_and_each_ms((1, 2, 4, 8), [0.011, 0.012, 0.014, 0.018]) == pytest.approx((10.0, 1.0))
