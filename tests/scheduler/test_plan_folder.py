"""Plan folders are written whole or not at all, and read back as they were."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from scheduler.autoscaler import schedule_frame
from scheduler.offline_plan import FRONTIER_SCHEMA, OfflinePlan
from scheduler.plan_folder import read_plan, refuse_foreign_folder, write_plan
from tests.builders import a_fleet, a_moving_plan
from traces.errors import BadInputError

TABLES = ("gpus", "placements", "needed", "frontier")


def with_frontier(plan: OfflinePlan) -> OfflinePlan:
    row = (250.0, 0.11, 0.11, 0.0, "optimal")
    return dataclasses.replace(plan, frontier=pl.DataFrame([row], schema=FRONTIER_SCHEMA, orient="row"))


def scalars(plan: OfflinePlan) -> dict[str, Any]:
    return {f.name: getattr(plan, f.name) for f in dataclasses.fields(plan) if f.name not in TABLES}


@pytest.mark.parametrize("plan", [a_moving_plan(), with_frontier(a_moving_plan())], ids=["plain", "frontier"])
def test_plan_is_read_as_it_was_written(plan: OfflinePlan, tmp_path: Path) -> None:
    write_plan(plan, tmp_path / "plan")
    found = read_plan(tmp_path / "plan")
    assert scalars(found) == scalars(plan)
    for name in TABLES:
        if getattr(plan, name) is None:
            assert getattr(found, name) is None
        else:
            assert_frame_equal(getattr(found, name), getattr(plan, name))


def test_folder_holds_exactly_the_files_of_the_format(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan", {"report.html": "<p>", "lanes.png": b"\x89PNG"})
    assert {path.name for path in (tmp_path / "plan").iterdir()} == {
        "plan.json", "gpus.parquet", "placements.parquet", "needed.parquet", "schedule.csv", "report.html", "lanes.png",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]
    assert (tmp_path / "plan" / "lanes.png").read_bytes() == b"\x89PNG"


def test_plan_json_has_the_keys_of_the_format(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan")
    data = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert data["format"] == "epochal.plan/1"
    assert data["fleet"] == a_fleet().effective()
    assert data["objective"]["total_dollars"] == pytest.approx(0.110022317)
    assert data["certificate"]["needed"] == "needed.parquet"
    assert "bound_latency_ms" not in data["certificate"]
    assert set(data) == {
        "format", "trace", "fleet", "overrides", "minimize", "objective", "certificate", "solver", "timing",
    }  # fmt: skip


def test_own_plan_is_replaced(tmp_path: Path) -> None:
    write_plan(with_frontier(a_moving_plan()), tmp_path / "plan", {"notes.html": "x"})
    write_plan(a_moving_plan(), tmp_path / "plan", {"notes.html": "y"})
    assert not (tmp_path / "plan" / "frontier.parquet").exists()
    assert (tmp_path / "plan" / "notes.html").read_text() == "y"


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    write_plan(a_moving_plan(), tmp_path / "plan")
    assert read_plan(tmp_path / "plan").sessions == 3


def test_parents_are_made(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "plan.json").exists()


def test_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(
        BadInputError, match=r"must be empty or hold a plan, and holds thesis\.tex; give another folder"
    ):
        write_plan(a_moving_plan(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_plan_with_somebodys_files_beside_it_is_refused_and_kept(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan")
    (tmp_path / "plan" / "trace.csv").write_text("precious")
    with pytest.raises(BadInputError, match=r"holds trace\.csv beside a plan, which replacing the plan would delete"):
        write_plan(a_moving_plan(), tmp_path / "plan")
    assert (tmp_path / "plan" / "trace.csv").read_text() == "precious"


@pytest.mark.parametrize("content", ['{"format": "other/1"}', "[]", "{"])
def test_another_plan_json_is_not_ours(content: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(BadInputError, match=r"holds plan\.json"):
        refuse_foreign_folder(tmp_path)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("x")
    with pytest.raises(BadInputError, match="must be a folder"):
        write_plan(a_moving_plan(), tmp_path / "plan")
    with pytest.raises(BadInputError, match=r"cannot be made, because .*plan is a file"):
        write_plan(a_moving_plan(), tmp_path / "plan" / "inner")


def test_failing_write_leaves_the_old_plan_and_nothing_else(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan", {"report.html": "old"})
    with pytest.raises(OSError, match="File name too long"):
        write_plan(a_moving_plan(), tmp_path / "plan", {"x" * 300: "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]
    assert (tmp_path / "plan" / "report.html").read_text() == "old"


def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the report does not fit."""
    script = f"""
import resource
from pathlib import Path
from scheduler.plan_folder import write_plan
from tests.builders import a_moving_plan
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
try:
    write_plan(a_moving_plan(), Path({str(tmp_path / "plan")!r}), {{"report.html": "x" * 10000}})
except OSError as error:
    print(error.strerror, error.filename)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert run.stdout == "File too large report.html\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: (folder / "plan.json").unlink(), "has no plan.json; give a folder that epochal plan wrote"),
        (lambda folder: (folder / "plan.json").write_text("{"), "plan.json:1: must be JSON"),
        (lambda folder: (folder / "plan.json").write_text("[]"), "plan.json: must be an object"),
        (lambda folder: (folder / "gpus.parquet").unlink(), "gpus.parquet: is missing; a plan folder must have it"),
        (lambda folder: (folder / "gpus.parquet").write_text("x"), "gpus.parquet: must be Parquet"),
        (
            lambda folder: pl.DataFrame({"gpu_id": ["a"]}).write_parquet(folder / "gpus.parquet"),
            "gpus.parquet: has no column gpu_type; it must have gpu_id, gpu_type, node, on_s, off_s",
        ),
        (
            lambda folder: (
                pl.read_parquet(folder / "gpus.parquet")
                .with_columns(on_s=pl.lit("soon"))
                .write_parquet(folder / "gpus.parquet")
            ),
            "gpus.parquet: has a column of another type",
        ),
        (
            lambda folder: (
                pl.read_parquet(folder / "gpus.parquet")
                .with_columns(on_s=pl.lit(None, dtype=pl.Float64))
                .write_parquet(folder / "gpus.parquet")
            ),
            "gpus.parquet: column on_s has empty values",
        ),
    ],
)
def test_broken_folder_is_told(change: Any, expected: str, tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan")
    change(tmp_path / "plan")
    with pytest.raises(BadInputError) as caught:
        read_plan(tmp_path / "plan")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("format",), "epochal.plan/2", "format=\"epochal.plan/2\" must be 'epochal.plan/1'"),
        (("objective", "gpu_hours"), -1, "objective.gpu_hours=-1 must be >= 0"),
        (("certificate", "gap"), None, "certificate.gap=null must be a number"),
        (("minimize",), "time", "minimize=\"time\" must be 'cost' or 'latency'"),
        (("fleet", "epoch_s"), 0, "fleet: epoch_s=0 must be > 0"),
    ],
)
def test_wrong_figure_in_plan_json_is_told(path: tuple[str, ...], value: Any, expected: str, tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan")
    data = json.loads((tmp_path / "plan" / "plan.json").read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(data))
    with pytest.raises(BadInputError) as caught:
        read_plan(tmp_path / "plan")
    assert str(caught.value).endswith(f"plan.json: {expected}")


def test_keys_of_later_versions_are_passed_over(tmp_path: Path) -> None:
    write_plan(a_moving_plan(), tmp_path / "plan")
    data = json.loads((tmp_path / "plan" / "plan.json").read_text())
    data["objective"]["carbon_kg"] = 1.0
    (tmp_path / "plan" / "plan.json").write_text(json.dumps(data))
    assert read_plan(tmp_path / "plan").objective == a_moving_plan().objective


def test_schedule_counts_gpus_per_hour_and_type() -> None:
    """g0 is on from -20 s to 50 s, g1 to 20 s: 40 GPU-seconds before the trace, 70 after its start."""
    rows = schedule_frame(a_moving_plan()).rows()
    assert rows == [(-1, "h100", 2, pytest.approx(40 / 3600)), (0, "h100", 2, pytest.approx(70 / 3600))]


def test_schedule_over_hours_keeps_the_most_and_the_mean() -> None:
    hour = 3600.0
    spans = [("g0", "h100", "0/0", 0.0, 3 * hour), ("g1", "h100", "0/0", 0.5 * hour, 0.75 * hour)]
    plan = a_moving_plan()
    plan = dataclasses.replace(plan, gpus=pl.DataFrame(spans, schema=plan.gpus.schema, orient="row"))
    assert schedule_frame(plan).rows() == [(0, "h100", 2, 1.25), (1, "h100", 1, 1.0), (2, "h100", 1, 1.0)]


def test_schedule_of_no_gpus_is_empty() -> None:
    plan = a_moving_plan()
    assert schedule_frame(dataclasses.replace(plan, gpus=plan.gpus.clear())).height == 0


def test_moves_are_touching_placements_on_different_gpus() -> None:
    assert a_moving_plan().moves.rows() == [("s2", 20.0, "g1", "g0")]


def test_notebooks_show_a_plan_as_a_table() -> None:
    plan = dataclasses.replace(a_moving_plan(), trace_name="<b>.csv")
    html = plan._repr_html_()
    assert "&lt;b&gt;.csv: 3 sessions" in html
    assert "gap 0.0203%" in html
    assert set(plan.to_polars()) == {"gpus", "placements", "moves", "needed"}
