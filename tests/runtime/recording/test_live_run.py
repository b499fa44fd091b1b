"""What was recorded is read again as it was, wherever the log is cut off, and whoever was killed meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.recording.live_run import LiveRun
from runtime.recording.runs import read_runs
from tests.runtime.recording.recorded import FLEET, PLANNER, Period, RecordedController, joined
from traces.errors import BadInputError

ACTIONS = st.lists(
    st.tuples(
        st.sampled_from((0, 1, 250_000, 1_999_999, 60_000_000)),  # microseconds that go by first
        st.sampled_from(("create", "create", "idle", "idle", "active", "end", "prompt", "kill", "stop")),
        st.integers(0, 7),
    ),
    max_size=25,
)


def done(actions: list[tuple[int, str, int]]) -> RecordedController:
    found = RecordedController()
    for serial, (pause_us, action, number) in enumerate(actions):
        found.now_us += pause_us
        names = sorted(found.active)
        match action:
            case "create":
                found.create()
            case "kill":
                found.kill()
            case "stop":
                found.stop()
            case _ if not names:
                pass
            case "idle" | "active":
                found.want(names[number % len(names)], active=action == "active")
            case "end":
                found.end(names[number % len(names)])
            case "prompt":
                found.prompt(names[number % len(names)], serial + 1)
                found.control(names[number % len(names)], serial + 1)
    return found


def traced(run: LiveRun) -> list[Period]:
    """The active periods of its trace."""
    try:
        trace = run.trace("log")
    except BadInputError:
        return []
    names = trace.sessions["session_id"].to_list()
    assert set(trace.sessions["profile"]) == {"a"}
    return sorted((names[index], start_us / 1e6, end_us / 1e6) for index, start_us, end_us in trace.periods.iter_rows())


@given(ACTIONS)
@settings(max_examples=100, deadline=None)
def test_the_trace_has_the_sessions_and_active_periods_that_were(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[int, str, int]]
) -> None:
    recorded = done(actions)
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    wanted = recorded.finish(path)
    runs = read_runs(path)
    assert [traced(run) for run in runs] == [joined(periods) for periods in wanted]
    assert all(run.complete and (run.fleet, run.planner) == (FLEET, PLANNER) for run in runs)
    assert b"secret" not in recorded.log
    assert b"acme" not in recorded.log


SMALL = [(0, "create", 0), (5, "create", 0), (7, "idle", 0), (9, "kill", 0), (3, "active", 0), (2, "end", 1)]


def test_a_log_is_read_up_to_its_last_whole_line_wherever_it_is_cut(tmp_path: Path) -> None:
    recorded, path = done(SMALL), tmp_path / "events.jsonl"
    recorded.finish(path)
    log = path.read_bytes()
    first = log.index(b"\n") + 1
    for size in range(len(log)):
        path.write_bytes(log[:size])
        if size < first:
            with pytest.raises(BadInputError, match=r"events\.jsonl:1: must begin with a line of kind began"):
                read_runs(path)
            continue
        whole = path.with_name("whole.jsonl")
        whole.write_bytes(log[: log.rindex(b"\n", 0, size) + 1])
        assert read_runs(path) == read_runs(whole)
        (run,) = read_runs(path)
        assert not run.complete
        assert run.end_s <= recorded.now_s


def test_whoever_was_killed_leaves_sessions_as_they_were_and_those_that_are_gone_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    done(SMALL).finish(path)
    (run,) = read_runs(path)
    assert run.controllers == 2
    assert traced(run) == [("s0", 0.0, 12e-6), ("s0", 24e-6, 26e-6), ("s1", 5e-6, 26e-6)]


def test_a_session_whose_end_was_cut_off_ends_with_what_was_read_before(tmp_path: Path) -> None:
    recorded, path = RecordedController(), tmp_path / "events.jsonl"
    recorded.create()
    recorded.create()
    recorded.now_us += 10
    recorded.want("s1", active=False)
    recorded.now_us += 10
    recorded.end("s0")
    recorded.log = recorded.log[: recorded.log.index(b'{"kind":"session_ended"')]
    recorded.now_us += 10
    recorded.kill()
    recorded.finish(path)
    (run,) = read_runs(path)
    assert traced(run) == [("s0", 0.0, 10e-6), ("s1", 0.0, 10e-6)]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ((b'"active":false', b'"active":7'), r"events\.jsonl:\d+: active must be right: Expected `bool`, got `int`"),
        (
            (b'"kind":"session_wanted"', b'"kind":"wish"'),
            r"events\.jsonl:\d+: kind must be right: Invalid value 'wish'",
        ),
        ((b'"session_id":"s0","active"', b'"session_id":"x","active"'), r"session_id=x must be that of a session"),
        ((b'{"kind":"session_wanted"', b'{"kind";'), r"events\.jsonl:\d+: line must be one JSON object"),
        ((b'"epoch_s":10.0', b'"epoch_s":-1.0'), r"events\.jsonl:1: fleet: epoch_s=-1 must be > 0"),
        ((b'"urgent_after_s":60.0', b'"urgent_after_s":-1.0'), r"events\.jsonl:1: planner: urgent_after_s=-1 must be"),
        ((b'"epochal.events/1"', b'"epochal.events/9"'), r"events\.jsonl:1: format must be right"),
        ((b'"status":"starting"', b'"status":"starting","x":1'), r"unknown field `x`"),
        ((b'"t_s":0.000012', b'"t_s":0.000001'), r"t_s=1e-06 must be >= 5e-06"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_field(tmp_path: Path, changed: tuple[bytes, bytes], told: str) -> None:
    recorded, path = done(SMALL), tmp_path / "events.jsonl"
    recorded.log += b'{"kind":"gpu_changed","t_s":0.000005,"gpu_id":"h100-0-0-0","status":"starting"}\n'
    recorded.finish(path)
    log = path.read_bytes()
    assert changed[0] in log
    path.write_bytes(log.replace(*changed))
    with pytest.raises(BadInputError, match=told):
        read_runs(path)


def test_nothing_follows_the_end_of_a_recording_but_another_beginning(tmp_path: Path) -> None:
    recorded, path = done(SMALL), tmp_path / "events.jsonl"
    recorded.finish(path)
    with path.open("ab") as stream:
        stream.write(b'{"kind":"session_ended","t_s":9.0,"session_id":"s0"}\n')
    with pytest.raises(BadInputError, match="kind must be began after a recording has ended"):
        read_runs(path)
