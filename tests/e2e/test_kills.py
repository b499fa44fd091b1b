"""A controller that is killed at any moment loses nothing: the benchmark of the same, with fewer kills."""

from __future__ import annotations

import pytest

from bench.kills import Scale, gates, killed

KILLS = 50  # the benchmark has 500


@pytest.mark.timeout(1200)
def test_no_kill_of_the_controller_loses_anything() -> None:
    scale = Scale(kills=KILLS, ready_s_max=60.0, silent_s=4.0)  # on a machine that is busy
    outcome = killed(scale)
    failed = [f"{gate.claim}: {gate.measured}" for gate in gates(scale, outcome) if not gate.ok]
    assert not failed
    assert len(outcome.kills) == scale.kills
    assert sum(kill.playing for kill in outcome.kills) > scale.kills
    assert len({kill.under_way for kill in outcome.kills}) > 2
    assert outcome.seen.ended == outcome.seen.created
