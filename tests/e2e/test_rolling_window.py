"""Two windows, the second from the state in which the first ends.

Decides what a rolling window keeps; must never know how plans are found.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from runtime.api import epochal_plan
from scheduler.rolling import state_at
from scheduler.state import load_state
from scheduler.verify import verify
from tests.builders import a_fleet, a_trace
from traces.assemble import trace_from_periods
from traces.trace import Trace

TEXT = "s1 0-130; s2 0-95 110-150; s3 15-125; s4 40-60 95-160; s5 70-112; s6 100-180; s7 105-140"


def window(trace: Trace, from_s: float, to_s: float) -> Trace:
    """What is active in [from_s, to_s), on the window's own clock."""
    start, end = (pl.col(name).clip(from_s * 1e6, to_s * 1e6) / 1e6 - from_s for name in ("start_us", "end_us"))
    rows = trace.periods.with_columns(session_id=trace.sessions["session_id"].gather(trace.periods["session_index"]))
    return trace_from_periods(
        rows.select("session_id", start_s=start, end_s=end).filter(pl.col("start_s") < pl.col("end_s"))
    )


def test_the_second_window_begins_where_the_first_ends(tmp_path: Path) -> None:
    fleet, whole = a_fleet({"gpu_types.h100.startup_s": 0.0}), a_trace(TEXT)
    first, second = window(whole, 0, 100), window(whole, 100, 180)
    before = epochal_plan(first, fleet, deadline_s=5.0)
    assert verify(first, fleet, before).findings == ()
    state = state_at(before, 100.0)
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state.model_dump()))
    assert load_state(path, fleet) == state
    after = epochal_plan(second, fleet, state=path, deadline_s=5.0)
    verdict = verify(second, fleet, after)
    assert verdict.findings == ()
    assert verdict.objective is not None
    assert verdict.objective.total_dollars == pytest.approx(after.objective.total_dollars)
    assert after.objective.unserved_session_seconds == 0
    placed = {row.session_id: row.gpu_id for row in state.sessions}
    continuing = after.placements.filter(pl.col("start_s") == 0, pl.col("session_id").is_in(list(placed)))
    assert set(continuing["session_id"]) == {"s1", "s3", "s4", "s5"}
    for session_id, gpu_id in continuing.select("session_id", "gpu_id").iter_rows():
        assert placed[session_id] == gpu_id


def test_gpus_of_the_state_are_paid_from_when_they_were_switched_on() -> None:
    fleet, whole = a_fleet({"gpu_types.h100.startup_s": 0.0}), a_trace(TEXT)
    before = epochal_plan(window(whole, 0, 100), fleet, deadline_s=5.0)
    state = state_at(before, 100.0)
    after = epochal_plan(window(whole, 100, 180), fleet, state=state, deadline_s=5.0)
    on = {gpu.gpu_id: gpu.on_s for gpu in state.gpus}
    assert on
    assert all(on_s < 0 for on_s in on.values())
    kept = after.gpus.filter(pl.col("on_s") < 0)
    assert dict(kept.select("gpu_id", "on_s").iter_rows()) == on


def test_the_state_in_the_middle_of_a_plan_is_who_runs_where() -> None:
    fleet, trace = a_fleet(), a_trace("s1 0-40; s2 0-20")
    plan = epochal_plan(trace, fleet, deadline_s=5.0)
    state = state_at(plan, 30.0)
    assert [row.session_id for row in state.sessions] == ["s1"]
    assert [gpu.on_s for gpu in state.gpus] == [-50.0]
