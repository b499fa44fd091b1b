"""The live benchmark: its demand, and how its figures are derived."""

from __future__ import annotations

import numpy as np
import pytest

from bench.live import SCALES, fleet_for, pushes_s, trace_for
from bench.live_users import Users
from scheduler.simulation.settings import SimulationSettings
from tests.builders import a_fleet, a_trace


def test_sessions_come_in_the_ramp_and_fewer_want_chunks_than_the_workers_hold() -> None:
    (scale,) = SCALES["small"]
    trace, fleet = trace_for(scale), fleet_for(scale)
    assert trace.session_count == scale.sessions
    assert trace.sha256 == trace_for(scale).sha256
    begin, end = (trace.periods[name].to_numpy() / 1e6 for name in ("start_us", "end_us"))
    active = [int(((begin <= at) & (at < end)).sum()) for at in np.arange(0, scale.seconds, 0.5)]
    assert max(active) <= 3 * scale.workers
    assert sum(pool.nodes for pool in fleet.pools) == scale.workers


def test_an_order_counts_from_the_first_time_that_it_was_decided() -> None:
    said = [("Open", "a", 1.0), ("Open", "a", 1.5), ("Resume", "a", 4.0), ("Open", "b", 2.0)]
    heard = [("Open", "a", 1.75), ("Open", "b", 2.25), ("Resume", "a", 4.5), ("Suspend", "c", 1.0)]
    assert pushes_s(said, heard).tolist() == pytest.approx([0.75, 0.25, 0.5])


def test_a_chunk_is_as_late_as_its_round_and_what_stood_before_it() -> None:
    fleet = a_fleet()
    trace = a_trace("s:a 0-60")
    users = Users(trace, fleet)
    user = users.by_id["s"]
    assert users.wants_at_s("s") is None
    users.begins("s", 10.0)
    users.is_now("s", "served", 1, 12.0)  # its place: judged by the time to the first chunk alone
    users.delivered("s", user.period, 0.25, 12.25)
    assert (users.felt.latencies_s, users.felt.first_s) == ([0.25], [2.25])
    users.is_now("s", "travels", 1, 12.5)
    users.is_now("s", "served", 2, 12.75)
    users.is_now("s", "travels", 1, 13.0)  # of whoever owned it before
    users.delivered("s", user.period, 0.25, 13.25)
    assert users.felt.latencies_s == [0.25, 0.5]
    ahead_s = SimulationSettings().ahead_chunks * user.chunk_s
    assert users.wants_at_s("s") == pytest.approx(user.buffer_end_s - ahead_s)
