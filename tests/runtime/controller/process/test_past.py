"""What is remembered of demand outlives its controller, as far as it can be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.controller.controller import Controller
from runtime.controller.process.past import EVERY_S, Past, history_of, history_to_bytes
from runtime.journal.records import Began
from runtime.journal.rules import after
from runtime.journal.truth import Truth
from scheduler.cluster import History
from scheduler.history import EPOCHS_MAX
from tests.builders import a_fleet

FLEET = a_fleet()
EMPTY = History(epoch_s=FLEET.epoch_s, active_max={}, idle_s={}, gone={}, scale_in_wanted_since_s={})
COUNTS = st.lists(st.integers(0, 10_000), max_size=40).map(tuple)
IDLE_S = st.lists(st.floats(0, 1e6), max_size=40).map(tuple)


def past_of(path: Path, said: list[str], unix_s: float = 1000.0) -> Past:
    return Past(path, FLEET, said.append, lambda: unix_s)


@given(counts=COUNTS, idle_s=IDLE_S, gone=st.integers(0, 1000), epochs=st.integers(0, 3 * EPOCHS_MAX))
def test_what_is_read_is_what_was_kept_and_unseen_epochs_are_as_the_last(
    counts: tuple[int, ...], idle_s: tuple[float, ...], gone: int, epochs: int
) -> None:
    kept = replace(EMPTY, active_max={"a": counts}, idle_s={"a": idle_s}, gone={"a": gone})
    read = history_of(history_to_bytes(kept, 1000.0), FLEET, 1000.0 + (epochs + 0.5) * FLEET.epoch_s)
    assert read is not None
    assert (read.idle_s, read.gone) == (kept.idle_s, kept.gone)
    expected = counts + counts[-1:] * epochs
    assert read.active_max == {"a": expected[-EPOCHS_MAX:]}


def test_a_clock_that_was_set_back_and_another_fleet_do_no_harm() -> None:
    kept = history_to_bytes(replace(EMPTY, active_max={"a": (1, 2), "other": (3,)}, gone={"other": 1}), 1000.0)
    read = history_of(kept, FLEET, 5.0)
    assert read is not None
    assert (read.active_max, read.gone) == ({"a": (1, 2)}, {})
    assert history_of(kept, a_fleet({"epoch_s": FLEET.epoch_s * 2}), 1000.0) is None


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"format": "epochal.history/2"}', b"\xff", b"[1]"],
    ids=["empty", "fields", "format", "bytes", "kind"],
)
def test_a_file_that_is_none_is_told_and_demand_learnt_anew(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "history.json").write_bytes(body)
    said: list[str] = []
    assert past_of(tmp_path / "history.json", said).read() is None
    (line,) = said
    assert "history.json" in line


def test_it_is_kept_now_and_then_and_a_disk_that_fails_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "there" / "history.json"
    past = past_of(path, said)
    past.keep(EMPTY, 0.0)
    past.keep(EMPTY, EVERY_S)
    assert len(said) == 1
    path.parent.mkdir()
    past.keep(replace(EMPTY, gone={"a": 1}), 2 * EVERY_S)
    past.keep(replace(EMPTY, gone={"a": 2}), 2.5 * EVERY_S)
    read = past.read()
    assert read is not None
    assert read.gone == {"a": 1}
    past.keep(replace(EMPTY, gone={"a": 2}), 2.5 * EVERY_S, last=True)
    read = past.read()
    assert read is not None
    assert read.gone == {"a": 2}
    assert len(said) == 1


def test_a_controller_plans_with_what_was_remembered() -> None:
    remembered = replace(EMPTY, active_max={"a": (5, 6, 7)})
    truth = after(Truth(), [Began(controller_epoch=1)])
    controller, _ = Controller.begin(FLEET, truth, 0.0, history=remembered)
    assert controller.copy().snapshot().history.active_max == {"a": (5, 6, 7)}
