"""Every bundled trace on the bundled fleets that know its profiles: the plan is what it claims.

Decides which pairs go together; must never know what they cost.
"""

from __future__ import annotations

import pytest

from runtime.api import epochal_plan
from runtime.bundled import example_files
from scheduler.fleet_file import load_fleet
from scheduler.verify import verify
from traces.errors import BadInputError
from traces.store import read_trace

FLEETS = ("one-type", "four-profiles", "packed", "turboserve", "two-types")
PAIRS = [("mooncake-45min.csv.gz", fleet) for fleet in FLEETS]
PAIRS += [("mixed-6h.parquet", "four-profiles"), ("mixed-6h.parquet", "two-types"), ("day-60.parquet", "one-type")]


@pytest.mark.parametrize(("trace_name", "fleet_name"), PAIRS)
def test_a_bundled_trace_is_planned_as_claimed(trace_name: str, fleet_name: str) -> None:
    with example_files(f"traces/{trace_name}", f"fleets/{fleet_name}.yaml") as (trace_file, fleet_file):
        trace, fleet = read_trace(trace_file), load_fleet(fleet_file)
    plan = epochal_plan(trace, fleet, deadline_s=4.0, gap=1e-3)
    assert verify(trace, fleet, plan).findings == ()
    assert plan.objective.unserved_session_seconds == 0
    assert plan.gap < 0.2


@pytest.mark.parametrize("fleet_name", ["packed", "turboserve"])
def test_a_fleet_without_a_profile_of_the_trace_is_told(fleet_name: str) -> None:
    with (
        example_files("traces/mixed-6h.parquet", f"fleets/{fleet_name}.yaml") as (trace_file, fleet_file),
        pytest.raises(BadInputError, match="must be one of the fleet's profiles"),
    ):
        epochal_plan(trace_file, fleet_file)
