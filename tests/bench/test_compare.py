"""Figures of the comparison are derived as its page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import cells
from bench.cells import keep, kept, key_of, record, recorded
from bench.compare_claims import CostAt, cost_at


def test_cost_at_a_ratio_is_the_cheapest_that_is_late_no_more_often() -> None:
    points = [(0.0005, 1.20), (0.002, 1.10), (0.02, 1.05)]
    assert cost_at(points, 0.0005) == 1.20
    assert cost_at(points, 0.05) == 1.05
    assert cost_at(points, 0.0001) is None


def test_between_two_settings_cost_falls_in_proportion() -> None:
    points = [(0.0, 1.20), (0.01, 1.10)]
    assert cost_at(points, 0.005) == pytest.approx(1.15)
    assert cost_at([*points, (0.002, 1.08)], 0.005) == 1.08


def test_the_closed_share_is_of_the_gap_between_reference_and_bound() -> None:
    assert CostAt(late=0.01, reference=1.20, ours=1.05).closed == pytest.approx(0.75)
    assert CostAt(late=0.01, reference=1.20, ours=None).closed is None


def test_a_cell_is_used_again_only_if_nothing_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_BENCH_CELLS", str(tmp_path / "cells"))
    content = {"policy": "turboserve", "seed": 0}
    key = key_of(content, "sources")
    assert kept(key) is None
    keep(key, {"cpu_s": 1.5})
    assert kept(key_of({"seed": 0, "policy": "turboserve"}, "sources")) == {"cpu_s": 1.5}
    assert kept(key_of({**content, "seed": 1}, "sources")) is None
    assert kept(key_of(content, "other sources")) is None


def test_a_cell_that_was_cut_off_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHAL_BENCH_CELLS", str(tmp_path))
    (tmp_path / "broken.json").write_text('{"cpu_s": 1')
    assert kept("broken") is None


def test_recorded_results_are_added_to_and_count_for_their_sources_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "recorded.jsonl.gz"
    monkeypatch.setenv("EPOCHAL_BENCH_CELLS", str(tmp_path / "one"))
    keep("a", {"cpu_s": 1.0})
    assert record(path) == 1
    monkeypatch.setenv("EPOCHAL_BENCH_CELLS", str(tmp_path / "other"))
    keep("b", {"cpu_s": 2.0})
    assert record(path) == 2
    assert recorded(path) == {"a": {"cpu_s": 1.0}, "b": {"cpu_s": 2.0}}
    monkeypatch.setattr(cells, "_RECORDED", path)
    assert kept("a") == {"cpu_s": 1.0}
    recorded.cache_clear()
    monkeypatch.setattr(cells, "sources_sha256", lambda: "of another day")
    assert kept("a") is None
    assert record(path) == 1
