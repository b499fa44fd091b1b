"""A comparison's runs, rows and lines; folders of runs and comparisons."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from scheduler.compare import COMPARISON, Cell, Comparison, Run, cells, compare, headings, is_short, table_lines
from scheduler.run_folder import write_comparison, write_run
from scheduler.simulation.outcome import Outcome
from tests.builders import a_moving_plan
from tests.scheduler.outcomes import a_summary, an_outcome
from tests.scheduler.report_plans import Shape, with_frontier
from traces.errors import BadInputError

TRACE = "tiny.csv"


def a_comparison(outcome: Outcome | None = None) -> Comparison:
    """Two policies with two seeds against a bound of $0.11: at $0.22 and $0.44, and at $0.33."""
    runs = [
        Run(cell=Cell(trace=0, policy=policy, seed=seed), summary=summary, outcome=outcome if seed == 0 else None)
        for policy, seed, dollars in (("hpa", 0, 0.22), ("hpa", 1, 0.44), ("epochal", 0, 0.33), ("epochal", 1, 0.33))
        for summary in [a_summary(trace=TRACE, policy=policy, seed=seed, gpu_dollars=dollars)]
    ]
    return compare(runs, [a_moving_plan()], [TRACE])


def test_every_policy_runs_on_every_trace_with_every_seed_once() -> None:
    found = cells(2, ["a", "b"], 3)
    assert len(found) == len(set(found)) == 12
    assert found[0] == Cell(trace=0, policy="a", seed=0)
    assert found[1] == Cell(trace=0, policy="b", seed=0)


def test_a_row_has_mean_least_and_largest_over_seeds() -> None:
    rows = a_comparison().rows
    assert dict(rows.schema) == COMPARISON
    hpa = rows.row(0, named=True)
    assert (hpa["policy"], hpa["seeds"], hpa["bound_dollars"]) == ("hpa", 2, 0.11)
    assert [hpa[f"gpu_dollars{end}"] for end in ("", "_min", "_max")] == pytest.approx([0.33, 0.22, 0.44])
    assert [hpa[f"above_bound_ratio{end}"] for end in ("", "_min", "_max")] == pytest.approx([2, 1, 3])


def test_without_an_optimum_nothing_is_said_of_the_bound() -> None:
    run = Run(cell=Cell(trace=0, policy="hpa", seed=0), summary=a_summary(trace=TRACE))
    comparison = compare([run], [None], [TRACE])
    assert comparison.rows["above_bound_ratio"].to_list() == [None]
    lines = table_lines(comparison.rows)[TRACE]
    assert list(lines) == ["hpa"]
    assert lines["hpa"][1] == "-"


def test_lines_begin_with_bound_and_plan_and_tell_half_the_range() -> None:
    lines = table_lines(a_comparison().rows)[TRACE]
    assert list(lines) == ["bound (offline)", "optimum (offline plan)", "hpa", "epochal"]
    assert {len(line) for line in lines.values()} == {len(headings())}
    assert lines["hpa"][:2] == ["0.33 ±0.11", "200.0 ±100.0 %"]
    assert lines["epochal"][:2] == ["0.33", "200.0 %"]


def test_a_comparison_has_what_notebooks_want() -> None:
    comparison = a_comparison()
    assert [summary["seed"] for summary in comparison.summary] == [0, 1, 0, 1]
    assert set(comparison.to_polars()) == {"comparison"}
    assert "±0.11" in comparison._repr_html_()
    assert "frontier" in replace(comparison, plans=(with_frontier(a_moving_plan()),)).tables


@pytest.mark.parametrize("late", ["late_chunk_ratio", "late_first_chunk_ratio"])
def test_who_is_late_makes_a_run_short(late: str) -> None:
    assert not is_short(a_summary(unserved_session_seconds=0.4))
    assert is_short(a_summary(**{late: 1e-6}))


def test_an_outcome_tells_its_figures_in_a_notebook() -> None:
    outcome, *_ = an_outcome(Shape(horizon_s=600.0, moves=2))
    assert "periods play without one" in outcome._repr_html_()
    assert set(outcome.to_polars()) >= {"periods", "stays", "moves", "gpus", "epochs", "decisions", "latencies"}


def test_a_run_folder_is_its_summary_and_tables(tmp_path: Path) -> None:
    outcome, *_ = an_outcome(Shape(horizon_s=600.0, moves=2))
    write_run(outcome, tmp_path / "run", {"report.html": b"page"})
    write_run(outcome, tmp_path / "run")  # replaces what it wrote before
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"summary.json", *(f"{name}.parquet" for name in outcome.to_polars())}
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == outcome.summary.to_json()
    assert pl.read_parquet(tmp_path / "run" / "stays.parquet").equals(outcome.tables.stays)


def test_a_comparison_folder_may_hold_its_runs(tmp_path: Path) -> None:
    outcome, *_ = an_outcome(Shape(horizon_s=600.0, moves=2))
    write_comparison(a_comparison(outcome), tmp_path / "out", runs=True)
    assert len(json.loads((tmp_path / "out" / "summaries.json").read_text())) == 4
    assert json.loads((tmp_path / "out" / "optima.json").read_text())[0]["bound_dollars"] == 0.11
    assert (tmp_path / "out" / "runs" / "0-hpa-0" / "summary.json").exists()
    write_comparison(a_comparison(outcome), tmp_path / "out")
    assert not (tmp_path / "out" / "runs").exists()


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    outcome, *_ = an_outcome(Shape(horizon_s=600.0, moves=2))
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"must be empty or hold a run, and holds mine\.txt"):
        write_run(outcome, tmp_path)
    write_run(outcome, tmp_path / "run")
    with pytest.raises(BadInputError, match="must be empty or hold a comparison"):
        write_comparison(a_comparison(), tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match=r"holds notes\.txt beside a run"):
        write_run(outcome, tmp_path / "run")
