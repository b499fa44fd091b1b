"""A run as a Perfetto trace: what each kind of event must have, and what the tracks tell."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest

from scheduler.perfetto import perfetto_trace
from tests.scheduler.outcomes import an_outcome

Event = dict[str, Any]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    outcome, *_ = an_outcome()
    trace = json.loads(json.dumps(perfetto_trace(outcome.tables), allow_nan=False))
    assert set(trace) == {"traceEvents", "displayTimeUnit", "otherData"}
    found: list[Event] = trace["traceEvents"]
    return found


def of(events: list[Event], phase: str) -> list[Event]:
    return [event for event in events if event["ph"] == phase]


def test_every_event_has_the_keys_of_its_phase(events: list[Event]) -> None:
    keys = {
        "M": {"name", "pid", "tid", "args"},
        "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
        "C": {"name", "pid", "tid", "ts", "args"},
        "s": {"name", "cat", "id", "pid", "tid", "ts", "args"},
        "f": {"name", "cat", "id", "pid", "tid", "ts", "bp", "args"},
    }
    assert {event["ph"] for event in events} == set(keys)
    for event in events:
        assert set(event) == keys[event["ph"]] | {"ph"}
        if "ts" in event:
            assert isinstance(event["ts"], int)
            assert event["ts"] >= 0


def test_slices_of_one_track_never_overlap(events: list[Event]) -> None:
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in of(events, "X"):
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        slices.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(slices))


def test_every_track_has_a_name(events: list[Event]) -> None:
    named = {(event["pid"], event["tid"]) for event in of(events, "M") if event["name"] == "thread_name"}
    assert {(event["pid"], event["tid"]) for event in of(events, "X")} <= named
    processes = {event["args"]["name"] for event in of(events, "M") if event["name"] == "process_name"}
    assert {"counters", "sessions on no GPU", "0/0/0"} <= processes


def test_a_move_is_a_flow_between_slices_of_its_session(events: list[Event]) -> None:
    starts, ends = {e["id"]: e for e in of(events, "s")}, {e["id"]: e for e in of(events, "f")}
    assert starts.keys() == ends.keys()
    assert Counter(event["name"] for event in starts.values())["migrate"] > 0
    slices = of(events, "X")
    for number, start in starts.items():
        sessions = []
        for event in (start, ends[number]):
            around = [
                s["name"]
                for s in slices
                if (s["pid"], s["tid"]) == (event["pid"], event["tid"]) and s["ts"] <= event["ts"] < s["ts"] + s["dur"]
            ]
            assert len(around) == 1
            sessions += around
        assert sessions[0] == sessions[1]
        assert start["ts"] <= ends[number]["ts"]


def test_counters_count_and_end_at_nothing(events: list[Event]) -> None:
    for name in ("active sessions", "GPUs on", "suspended sessions", "waiting sessions"):
        values = [event["args"]["value"] for event in of(events, "C") if event["name"] == name]
        assert max(values) > 0
        assert values[-1] == 0
