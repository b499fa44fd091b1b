"""The placement benchmark measures what it says, compares like with like, and its gates can fail."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from bench import solve_scaling_measure
from bench.result import BenchResult
from bench.solve_scaling import run_cases
from bench.solve_scaling_cases import CASES, EXTENTS
from bench.solve_scaling_charts import write_charts
from bench.solve_scaling_gates import gates_of
from bench.solve_scaling_measure import LOADS, Measured, Raw, measure, measured_from
from bench.solve_scaling_table import Group, compared, groups_of, references_of, row_of
from scheduler.policies.turboserve_placement import REBALANCING_STEPS, place_like_turboserve
from solvers.placement.check import evaluate
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve

TINY = replace(EXTENTS["small"], seeds=2, epochs=2, raw_seeds=1, raw_gpus=(4,), raw_cases=("grouped-4",))


@cache
def measured(case: str = "grouped-4", gpus: int = 4) -> Measured:
    """But for the memory: it is that of this process, with whatever other tests have needed before."""
    found = measure(CASES[case], gpus, TINY, (0.5,))
    assert found.peak_mib > 0
    return replace(found, peak_mib=100.0)


def changed(group: Group, **fields: object) -> Group:
    """With one field of every run set to something else."""
    return replace(group, runs=tuple(replace(run, **fields) for run in group.runs))  # type: ignore[arg-type]


def broken(groups: list[Group]) -> list[str]:
    return [gate.claim for gate in gates_of(groups) if not gate.ok]


def test_one_shot_problems_and_closed_loops_are_measured_beside_the_competitors() -> None:
    found = measured()
    assert [(run.mode, run.seed, run.epoch) for run in found.runs] == [
        ("one-shot", 0, 0),
        ("one-shot", 1, 0),
        ("closed loop", 0, 0),
        ("closed loop", 0, 1),
    ]
    assert {raw.solver for raw in found.raws} == {"cpsat", "highs"}
    assert not any(run.faults for run in found.runs)
    assert not any(run.faults for run in found.references)
    assert not any(raw.faults for raw in found.raws)
    assert all(0 < run.first_plan_s <= run.seconds for run in found.runs)
    assert all(run.bound_us <= run.value_us for run in found.runs)


def test_a_measurement_survives_its_way_between_processes() -> None:
    assert measured_from(json.dumps(dataclasses.asdict(measured()))) == replace(
        measured(),
        runs=tuple(replace(run, faults=[]) for run in measured().runs),  # type: ignore[arg-type]
        references=tuple(replace(run, faults=[]) for run in measured().references),  # type: ignore[arg-type]
        raws=tuple(replace(run, faults=[]) for run in measured().raws),  # type: ignore[arg-type]
    )


def test_there_is_a_row_for_each_mode_and_all_have_the_same_columns() -> None:
    rows = [row_of(group) for case in ("grouped-4", "turboserve-1") for group in groups_of(measured(case))]
    assert [(row["case"], row["mode"]) for row in rows] == [
        ("grouped-4", "one-shot"),
        ("grouped-4", "closed loop"),
        ("turboserve-1", "one-shot"),
        ("turboserve-1", "closed loop"),
    ]
    assert all(list(row) == list(rows[0]) for row in rows)
    assert rows[0]["CP-SAT: build/all ms, gap %, vs ours %"] is not None
    assert rows[2]["CP-SAT: build/all ms, gap %, vs ours %"] is None


def test_the_reference_has_the_load_that_serves_it_better() -> None:
    (one_shot, loop) = groups_of(measured("turboserve-4", 16))
    for group in (one_shot, loop):
        chosen = references_of(group, equal_budget=False)
        assert [(run.seed, run.epoch) for run in chosen] == [(run.seed, run.epoch) for run in group.runs]
        for load in ("latency", "sessions"):
            same = [
                run.value_us
                for run in group.measured.references
                if run.mode == group.mode and run.load == load and not run.equal_budget
            ]
            assert sum(run.value_us for run in chosen) <= sum(same)


def test_comparison_is_ours_over_theirs_less_one() -> None:
    group = groups_of(measured())[0]
    theirs = references_of(group, equal_budget=True)
    equal = [replace(run, value_us=2 * run.value_us) for run in theirs]
    (first, second) = (compared(group.runs, some, group.mode) for some in (theirs, equal))
    assert [1 + share for share in second] == pytest.approx([(1 + share) / 2 for share in first])


@pytest.mark.parametrize(
    ("fields", "claim"),
    [
        ({"faults": ("broken",)}, "passes the check"),
        ({"unserved": 1}, "serves everybody"),
        ({"first_plan_s": 0.011}, "first valid plan"),
        ({"seconds": 0.56}, "overshoot"),
    ],
)
def test_gates_of_every_size_can_fail(fields: dict[str, object], claim: str) -> None:
    groups = groups_of(measured())
    assert broken([changed(group, seconds=0.549, first_plan_s=0.01) for group in groups]) == []
    calm = [changed(group, seconds=0.1, first_plan_s=0.001) for group in groups]
    assert [claim in told for told in broken([changed(group, **fields) for group in calm])] == [True]


@pytest.mark.parametrize(
    ("case", "gpus", "mode", "fields", "holds"),
    [
        ("turboserve-4", 256, "closed loop", {"gap": 0.0011, "seconds": 0.05}, False),
        ("turboserve-4", 256, "closed loop", {"gap": 0.001, "seconds": 0.05}, True),
        ("turboserve-4", 256, "closed loop", {"gap": 0.0, "seconds": 0.11}, False),
        ("turboserve-12", 256, "closed loop", {"gap": 0.001, "seconds": 0.5}, True),
        ("turboserve-12", 256, "one-shot", {"gap": 0.002, "seconds": 0.5}, False),
        ("turboserve-12", 1024, "closed loop", {"gap": 0.002, "seconds": 0.5}, False),
        ("turboserve-1", 256, "closed loop", {"gap": 0.0005, "seconds": 0.001}, False),
        ("turboserve-1", 1024, "closed loop", {"gap": 0.0, "seconds": 0.061}, False),
        ("grouped-4", 256, "one-shot", {"gap": 0.0011, "seconds": 0.5}, False),
        ("grouped-4", 256, "closed loop", {"gap": 0.0099, "seconds": 0.5}, True),
        ("grouped-4", 256, "closed loop", {"gap": 0.0101, "seconds": 0.5}, False),
    ],
)
def test_gates_on_quality_hold_to_the_digit(
    case: str, gpus: int, mode: str, fields: dict[str, object], holds: bool
) -> None:
    as_if = replace(measured(), case=case, gpus=gpus, references=(), raws=())
    groups = [
        replace(changed(group, first_plan_s=0.001, **fields), measured=as_if)
        for group in groups_of(measured())
        if group.mode == mode
    ]
    assert (broken(groups) == []) is holds


def test_a_bound_above_somebodys_placement_is_a_fault() -> None:
    from bench.solve_scaling_measure import _with_cross_check

    run = measured().runs[0]
    other = Raw(
        solver="highs",
        seed=0,
        build_s=0.1,
        seconds=1.0,
        value_us=run.bound_us - 1,
        bound_us=0,
        end_reason="",
        faults=(),
    )
    assert "is above" in _with_cross_check(run, (), (other,)).faults[0]
    assert _with_cross_check(run, (), (replace(other, value_us=run.bound_us),)).faults == ()
    proves_more = replace(other, value_us=None, bound_us=run.value_us + 1)
    assert "proves" in _with_cross_check(run, (), (proves_more,)).faults[0]


def test_charts_are_pictures(tmp_path: Path) -> None:
    write_charts([group for gpus in (4, 16) for group in groups_of(measured("turboserve-4", gpus))], tmp_path)
    for name in ("planning_time.png", "gap.png", "against_reference.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_case_runs_in_a_process_of_its_own() -> None:
    result = run_cases("small", ("turboserve-1",), (4,), (1.0,))
    assert isinstance(result, BenchResult)
    assert [row["mode"] for row in result.rows] == ["one-shot", "closed loop"]
    assert result.rows[0]["plans"] == EXTENTS["small"].seeds


@pytest.mark.parametrize("name", ["grouped-12", "packed-12-3types", "turboserve-12", "packed-4"])
@pytest.mark.parametrize("gpus", [4, 64])
def test_the_cascade_is_never_worse_than_the_reference(name: str, gpus: int) -> None:
    for seed in range(6):
        problem = CASES[name].workload(gpus, seed).problem()
        answer = solve(problem, Meter(work=100), seed=seed)
        for load in LOADS:
            for steps_max in (REBALANCING_STEPS, problem.moves_max):
                reference = place_like_turboserve(problem, steps_max=steps_max, load=load)
                assert answer.value.balance <= evaluate(problem, reference).balance


@pytest.mark.parametrize("solver", ["cpsat", "highs"])
def test_raw_solvers_get_their_deadline_once_the_model_is_built(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve_scaling_measure, "RAW_DEADLINE_S", 1e-3)
    raw = solve_scaling_measure._raw(solver, CASES["grouped-12"].workload(16, 0).problem(), 0)
    assert raw.build_s > 1e-3
    assert raw.end_reason == "time"  # not: too little of it to begin
    assert not raw.faults
