"""The independent check accepts right plans and finds every kind of lie in wrong ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from scheduler.offline_plan import FRONTIER_SCHEMA, Certificate, Objective, OfflinePlan
from scheduler.verify import verify
from tests.builders import MOVE_DOLLARS, a_fleet, a_moving_plan, a_moving_trace, a_plan, a_trace

Change = Callable[[OfflinePlan], OfflinePlan]


def findings(plan: OfflinePlan) -> str:
    return "\n".join(verify(a_moving_trace(), a_fleet(), plan).findings)


def cell(table: str, row: int, column: str, value: Any) -> Change:
    """Put one value into one cell of a table of the plan."""

    def change(plan: OfflinePlan) -> OfflinePlan:
        frame: pl.DataFrame = getattr(plan, table)
        values = frame[column].to_list()
        values[row] = value
        return plain(**{table: frame.with_columns(pl.Series(column, values, frame.schema[column]))})(plan)

    return change


def claim(part: str, **values: Any) -> Change:
    """Put other figures into the objective or the certificate."""
    return lambda plan: dataclasses.replace(plan, **{part: dataclasses.replace(getattr(plan, part), **values)})


def plain(**values: Any) -> Change:
    return lambda plan: dataclasses.replace(plan, **values)


def without(table: str, row: int) -> Change:
    def change(plan: OfflinePlan) -> OfflinePlan:
        frame: pl.DataFrame = getattr(plan, table)
        return plain(**{table: frame.with_row_index("i").filter(pl.col("i") != row).drop("i")})(plan)

    return change


def fleet(**changes: Any) -> Change:
    return lambda plan: dataclasses.replace(
        plan, fleet=a_fleet({key.replace("__", "."): value for key, value in changes.items()})
    )


MUTANTS: dict[str, tuple[Change, str]] = {
    "unknown type": (cell("gpus", 1, "gpu_type", "h10"), "GPU g1 is of unknown type h10"),
    "unknown node": (cell("gpus", 1, "node", "0/2"), 'node="0/2" must be'),
    "on off the grid": (cell("gpus", 1, "on_s", -20.5), "GPU g1: on_s=-20.5 off_s=20 must be multiples of epoch_s=10"),
    "reversed span": (cell("gpus", 1, "off_s", -30.0), "must be a span with on_s < off_s"),
    "not a number": (cell("gpus", 1, "on_s", float("nan")), "has an on_s or off_s that is no number"),
    "same GPU twice": (cell("gpus", 1, "gpu_id", "g0"), "overlaps another span of this GPU"),
    "started too late": (cell("gpus", 0, "on_s", -10.0), "is not usable all that time"),
    "switched off too early": (cell("gpus", 0, "off_s", 40.0), "session s3 on GPU g0 [5, 45): the GPU is not usable"),
    "node full": (fleet(pools=[{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 1}]), "node 0/0: 2 GPUs on at -20"),
    "pool full": (fleet(pools=[{"gpu_type": "h100", "nodes": 1, "gpus_per_node": 1}]), "type h100: 2 GPUs on at -20"),
    "below the minimum": (fleet(pools__0__gpus_min=2), "pool 0: 1 GPUs usable at 20, gpus_min=2"),
    "unknown session": (cell("placements", 0, "session_id", "s9"), "session s9 is placed but not in the trace"),
    "unknown GPU": (cell("placements", 0, "gpu_id", "g9"), "session s1 is placed on unknown GPU g9"),
    "time is no number": (cell("placements", 0, "end_s", float("inf")), "whose time is no number"),
    "reversed placement": (cell("placements", 0, "end_s", 0.0), "must have start_s < end_s"),
    "leaves its period": (cell("placements", 3, "end_s", 46.0), "session s3 on GPU g0 [5, 46) leaves"),
    "before its period": (cell("placements", 3, "start_s", 4.0), "session s3 on GPU g0 [4, 45) leaves"),
    "overlap in a session": (cell("placements", 2, "start_s", 10.0), "begins before the session's placement before"),
    "hidden unserved time": (without("placements", 3), "objective.unserved_session_seconds=0, recomputed 40"),
    "served late though there is room": (
        cell("placements", 1, "gpu_id", "g0"),
        "although the fleet has room for every",
    ),
    "hidden late time": (cell("placements", 1, "gpu_id", "g0"), "objective.late_session_seconds=0, recomputed 45"),
    "moves off the grid": (
        lambda plan: cell("placements", 1, "end_s", 15.0)(cell("placements", 2, "start_s", 15.0)(plan)),
        "session s2 on GPU g0 [15, 30): migrates off the epoch boundaries",
    ),
    "no moves allowed": (fleet(budget__moves_per_epoch=0), "budget moves_per_epoch=0: the plan makes 1 moves at 20"),
    "no moves out": (
        fleet(budget__moves_out_per_gpu=0),
        "budget moves_out_per_gpu=0: the plan makes 1 moves at GPU g1",
    ),
    "no moves in": (fleet(budget__moves_in_per_gpu=0), "budget moves_in_per_gpu=0: the plan makes 1 moves at GPU g0"),
    "too many bytes": (fleet(budget__gib_per_epoch=3.5), "budget gib_per_epoch=3.5: the plan moves 4 GiB at 20"),
    "beyond the batch sizes": (fleet(profiles__a__latency_ms={"h100": [100.0]}), "exceeds its batch sizes"),
    "beyond the memory": (fleet(profiles__a__state_gib=9.0), "GPU g0 at 5: 2 a exceeds its memory"),
    "cheaper than it is": (claim("objective", gpu_dollars=0.1), "objective.gpu_dollars=0.1, recomputed 0.11"),
    "free moves": (
        claim("objective", move_dollars=0.0),
        "objective.total_dollars=0.110022317, its parts add up to 0.11",
    ),
    "fewer hours": (claim("objective", gpu_hours=0.01), "objective.gpu_hours=0.01, recomputed 0.0305"),
    "faster at worst": (claim("objective", chunk_latency_ms_max=100.0), "chunk_latency_ms_max=100, recomputed 200"),
    "faster on average": (
        claim("objective", chunk_latency_ms_mean=150.0),
        "chunk_latency_ms_mean=150, recomputed 155.5",
    ),
    "fewer migrations": (claim("objective", migrations=0), "objective.migrations=0, recomputed 1"),
    "another trace": (plain(trace_sha256="cd" * 32), "trace.sha256=cd"),
    "other session count": (plain(sessions=4), "trace.sessions=4, the trace has 3"),
    "other period count": (plain(periods=4), "trace.periods=4, the trace has 3"),
    "other horizon": (plain(horizon_s=46.0), "trace.horizon_s=46, the trace has 45"),
    "another fleet": (fleet(target__first_chunk_ms=9.0), "fleet.target is not that of the fleet file"),
    "gap too small": (claim("certificate", gap=1e-5), "certificate.gap=1e-05, recomputed 0.000202836"),
    "gap is no number": (claim("certificate", gap=float("nan")), "certificate.gap=nan"),
    "called optimal": (claim("certificate", status="optimal"), "status=optimal with a gap of 0.000203"),
    "bound above the value": (claim("certificate", bound_dollars=0.2), "bound_dollars=0.2 must lie between 0 and"),
    "bound without proof": (
        claim("certificate", bound_dollars=0.110022, gap=(MOVE_DOLLARS - 0.000022) / (0.11 + MOVE_DOLLARS)),
        "certificate.bound_dollars=0.110022, and needed.parquet proves 0.110000",
    ),
    "bound missing": (claim("certificate", bound_dollars=None), "certificate.bound_dollars is missing"),
    "unserved bound": (claim("certificate", bound_unserved_session_seconds=1.0), "must lie between 0 and the plan's 0"),
    "row claims too much": (cell("needed", 0, "type_weights", [1.0]), "row 0 is false: a h100 can hold weight 2"),
    "row of another length": (cell("needed", 0, "weights", [1.0, 1.0]), "row 0: weights must have 1 entries"),
    "row with negative weight": (cell("needed", 0, "weights", [-1.0]), "row 0: weights must be finite and >= 0"),
    "row outside its epoch": (cell("needed", 0, "at_s", 10.0), "row 0: at_s=10 must lie in epoch 0"),
    "row missing": (without("needed", 1), "needed.parquet proves 0.100000"),
    "latency plan with GPUs off": (
        lambda plan: plain(minimize="latency")(claim("certificate", bound_latency_ms=200.0, gap=0.0)(plan)),
        "GPU g1: on_s=-20 off_s=20 must be usable for the whole horizon",
    ),
    "latency plan without its bound": (plain(minimize="latency"), "certificate.bound_latency_ms is missing"),
}


def test_right_plan_has_no_findings() -> None:
    verdict = verify(a_moving_trace(), a_fleet(), a_moving_plan())
    assert verdict.findings == ()
    assert verdict.unchecked == ()
    assert verdict.proven_dollars == pytest.approx(0.110)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name: str) -> None:
    change, expected = MUTANTS[name]
    assert expected in findings(change(a_moving_plan()))


def test_figures_are_recomputed_from_the_tables_alone() -> None:
    wrong = claim("objective", total_dollars=9.0, chunk_latency_ms_max=9.0, migrations=9)(a_moving_plan())
    objective = verify(a_moving_trace(), a_fleet(), wrong).objective
    assert objective is not None
    assert dataclasses.asdict(objective) == pytest.approx(dataclasses.asdict(a_moving_plan().objective))


def test_overridden_fleet_keys_may_differ() -> None:
    changed = fleet(target__first_chunk_ms=9.0)(a_moving_plan())
    plan = dataclasses.replace(changed, overrides={"target": "set on the command line"})
    assert findings(plan) == ""


def test_without_the_trace_what_stays_unchecked_is_said() -> None:
    verdict = verify(None, None, a_moving_plan())
    assert verdict.findings == ()
    assert "give the trace" in verdict.unchecked[0]


def test_without_the_trace_spans_and_overlaps_are_still_checked() -> None:
    plan = cell("gpus", 0, "off_s", 40.0)(a_moving_plan())
    assert "is not usable all that time" in "\n".join(verify(None, None, plan).findings)


def test_memory_counts_on_both_sides_of_a_swap() -> None:
    """Two full GPUs exchange a session: each would hold three states of 4 GiB in 8 GiB for an instant."""
    tight = a_fleet({"gpu_types.h100.memory_gib": 12.0})
    trace = a_trace("s1 0-40; s2 0-40; s3 0-40; s4 0-40")
    rows = [("s1", "g0", 0, 40), ("s2", "g0", 0, 20), ("s2", "g1", 20, 40)]
    rows += [("s3", "g1", 0, 20), ("s3", "g0", 20, 40), ("s4", "g1", 0, 40)]
    plan = dataclasses.replace(
        a_moving_plan(),
        fleet=tight,
        placements=pl.DataFrame(rows, schema=a_moving_plan().placements.schema, orient="row"),
    )
    found = verify(trace, tight, plan).findings
    assert "GPU g0 at 20: 12 GiB of states that stay, leave and arrive exceed its 8 GiB" in found
    assert not any("exceeds its memory" in finding for finding in found)


def test_source_must_be_on_until_the_move() -> None:
    """s1 waits from 20 to 30 s and then moves from a GPU that is gone."""
    trace = a_trace("s1 0-40")
    plan = dataclasses.replace(
        a_moving_plan(),
        placements=pl.DataFrame(
            [("s1", "g1", 0, 20), ("s1", "g0", 30, 40)], schema=a_moving_plan().placements.schema, orient="row"
        ),
    )
    assert "migrates from a GPU that was switched off before" in "\n".join(verify(trace, a_fleet(), plan).findings)


def test_unserved_time_is_told_by_priority() -> None:
    trace = a_trace("s1 0-20; s2 0-30; s3 5-45; s4 0-7; s5 0-5", priorities={"s4": 2, "s5": -1})
    verdict = verify(trace, a_fleet(), a_moving_plan())
    assert list(verdict.unserved_by_priority.items()) == [(2, 7.0), (-1, 5.0)]


def test_idle_gap_is_neither_unserved_nor_a_migration() -> None:
    trace = a_trace("s1 0-10 20-30")
    total = 0.050 + 0.030
    plan = a_plan(
        trace,
        a_fleet(),
        gpus=[("g0", "h100", "0/0", -20, 30), ("g1", "h100", "0/1", 0, 30)],
        placements=[("s1", "g0", 0, 10), ("s1", "g1", 20, 30)],
        objective=Objective(
            total_dollars=total,
            gpu_dollars=total,
            move_dollars=0.0,
            gpu_hours=80 / 3600,
            chunk_latency_ms_max=100.0,
            chunk_latency_ms_mean=100.0,
            late_session_seconds=0.0,
            unserved_session_seconds=0.0,
            migrations=0,
        ),
        certificate=Certificate(
            status="feasible",
            method="by hand",
            gap=0.030 / total,
            bound_unserved_session_seconds=0.0,
            bound_late_session_seconds=0.0,
            bound_dollars=0.050,
        ),
        needed=[(0, 0.0, [1.0], [2.0]), (2, 20.0, [1.0], [2.0])],
    )
    assert verify(trace, a_fleet(), plan).findings == ()


def test_rows_prove_no_cost_where_somebody_is_unserved() -> None:
    """One GPU for three sessions, and no pool for another: the dollars are not held against needed.parquet."""
    small = a_fleet({"pools": [{"gpu_type": "h100", "nodes": 1, "gpus_per_node": 1}]})
    trace = a_trace("s1 0-10; s2 0-10; s3 0-10")
    plan = a_plan(
        trace,
        small,
        gpus=[("g0", "h100", "0/0", -20, 10)],
        placements=[("s1", "g0", 0, 10), ("s2", "g0", 0, 10)],
        objective=Objective(
            total_dollars=0.03,
            gpu_dollars=0.03,
            move_dollars=0.0,
            gpu_hours=30 / 3600,
            chunk_latency_ms_max=200.0,
            chunk_latency_ms_mean=200.0,
            late_session_seconds=0.0,
            unserved_session_seconds=10.0,
            migrations=0,
        ),
        certificate=Certificate(
            status="optimal",
            method="by hand",
            gap=0.0,
            bound_unserved_session_seconds=10.0,
            bound_late_session_seconds=0.0,
            bound_dollars=0.03,
        ),
        needed=[(0, 0.0, [1.0], [2.0])],
    )
    verdict = verify(trace, small, plan)
    assert verdict.findings == ()
    assert verdict.proven_dollars is None


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((250.0, 0.2, 0.1, 0.4, "feasible"), "gap=0.4, recomputed 0.5"),
        ((250.0, 0.2, 0.3, -0.5, "feasible"), "bound_dollars=0.300000 exceeds total_dollars=0.200000"),
        ((250.0, 0.2, 0.1, 0.5, "optimal"), "status=optimal with a gap of 0.5"),
    ],
)
def test_frontier_rows_must_follow(row: tuple[Any, ...], expected: str) -> None:
    plan = dataclasses.replace(a_moving_plan(), frontier=pl.DataFrame([row], schema=FRONTIER_SCHEMA, orient="row"))
    assert expected in findings(plan)


def test_tighter_target_cannot_cost_less_than_the_bound_of_a_looser_one() -> None:
    rows = [(200.0, 0.1, 0.1, 0.0, "optimal"), (250.0, 0.2, 0.2, 0.0, "optimal")]
    plan = dataclasses.replace(a_moving_plan(), frontier=pl.DataFrame(rows, schema=FRONTIER_SCHEMA, orient="row"))
    assert "the bound at 250 ms exceeds the cost at 200 ms" in findings(plan)


def a_two_type_plan(bound_dollars: float) -> OfflinePlan:
    """One session on an h100 for an epoch: 30 GPU-seconds. A b200 takes twice as many at more than twice the price."""
    fleet = a_fleet(
        {
            "gpu_types.b200": {"memory_gib": 40.0, "price_per_hour": 9.0, "startup_s": 20.0},
            "pools": [{"gpu_type": t, "nodes": 1, "gpus_per_node": 1} for t in ("h100", "b200")],
            "profiles.a.latency_ms": {"h100": [100.0, 200.0], "b200": [50.0, 100.0, 150.0, 200.0]},
        }
    )
    return a_plan(
        a_trace("s1 0-10"),
        fleet,
        gpus=[("g0", "h100", "0/0", -20, 10)],
        placements=[("s1", "g0", 0, 10)],
        objective=Objective(
            total_dollars=0.03,
            gpu_dollars=0.03,
            move_dollars=0.0,
            gpu_hours=30 / 3600,
            chunk_latency_ms_max=100.0,
            chunk_latency_ms_mean=100.0,
            late_session_seconds=0.0,
            unserved_session_seconds=0.0,
            migrations=0,
        ),
        certificate=Certificate(
            status="optimal" if bound_dollars == 0.03 else "feasible",
            method="by hand",
            gap=(0.03 - bound_dollars) / 0.03,
            bound_unserved_session_seconds=0.0,
            bound_late_session_seconds=0.0,
            bound_dollars=bound_dollars,
        ),
        needed=[(0, 5.0, [1.0], [2.0, 4.0])],
    )


@pytest.mark.parametrize(("claimed", "proven"), [(0.014, 0.015), (0.03, 0.03)])
def test_rows_of_two_types_prove_fractions_first_and_whole_gpus_where_claimed(claimed: float, proven: float) -> None:
    plan = a_two_type_plan(claimed)
    verdict = verify(a_trace("s1 0-10"), plan.fleet, plan)
    assert verdict.findings == ()
    assert verdict.proven_dollars == pytest.approx(proven)


def test_false_row_of_the_second_type_is_found() -> None:
    plan = cell("needed", 0, "type_weights", [2.0, 3.0])(a_two_type_plan(0.014))
    found = verify(a_trace("s1 0-10"), plan.fleet, plan).findings
    assert found == ("needed.parquet: row 0 is false: a b200 can hold weight 4, the row says at most 3",)


def a_latency_plan(**certificate: Any) -> OfflinePlan:
    """Two GPUs on throughout for three sessions: at worst 2 share one."""
    claims: dict[str, Any] = {"bound_dollars": None, "status": "optimal", "gap": 0.0}
    claims |= {"bound_latency_ms": 200.0, "bound_mean_latency_ms": 14000 / 90, "gap_mean": 0.0} | certificate
    plan = a_moving_plan()
    total = 0.14 + MOVE_DOLLARS
    return dataclasses.replace(
        cell("gpus", 1, "off_s", 50.0)(plan),
        minimize="latency",
        objective=dataclasses.replace(plan.objective, gpu_dollars=0.14, total_dollars=total, gpu_hours=140 / 3600),
        certificate=dataclasses.replace(plan.certificate, **claims),
        needed=plan.needed.clear(),
    )


def test_right_latency_plan_has_no_findings() -> None:
    assert findings(a_latency_plan()) == ""


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"bound_latency_ms": 201.0}, "bound_latency_ms=201 must lie between 0 and the plan's 200"),
        ({"bound_latency_ms": 100.0}, "certificate.gap=0, recomputed 0.5"),
        ({"gap_mean": 0.1}, "certificate.gap_mean=0.1, recomputed 0"),
        ({"bound_mean_latency_ms": None}, "bound_mean_latency_ms or gap_mean is missing"),
    ],
)
def test_wrong_latency_certificate_is_found(claims: dict[str, Any], expected: str) -> None:
    assert expected in findings(a_latency_plan(**claims))


def test_a_plan_without_any_gpu_is_checked() -> None:
    objective = Objective(
        total_dollars=0.0,
        gpu_dollars=0.0,
        move_dollars=0.0,
        gpu_hours=0.0,
        chunk_latency_ms_max=0.0,
        chunk_latency_ms_mean=0.0,
        late_session_seconds=0.0,
        unserved_session_seconds=20.0,
        migrations=0,
    )
    certificate = Certificate(
        status="feasible",
        method="none",
        gap=0.0,
        bound_dollars=0.0,
        bound_unserved_session_seconds=0.0,
        bound_late_session_seconds=0.0,
    )
    trace, fleet = a_trace("s1 0-20"), a_fleet()
    plan = a_plan(trace, fleet, gpus=[], placements=[], objective=objective, certificate=certificate)
    (finding,) = verify(trace, fleet, plan).findings
    assert "room" in finding
