"""State files are held against the fleet."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from scheduler.state import FleetState, load_state
from tests.builders import a_fleet
from traces.errors import BadInputError

STATE: dict[str, Any] = {
    "format": "epochal.state/1",
    "gpus": [
        {"gpu_id": "g0", "gpu_type": "h100", "node": "0/0", "on_s": -30},
        {"gpu_id": "g1", "gpu_type": "h100", "node": "0/1", "on_s": 0},
    ],
    "sessions": [{"session_id": "s1", "gpu_id": "g0"}],
}


def load(folder: Path, state: Any) -> FleetState:
    path = folder / "state.json"
    path.write_text(state if isinstance(state, str) else json.dumps(state))
    return load_state(path, a_fleet())


def test_state_is_read(tmp_path: Path) -> None:
    state = load(tmp_path, STATE)
    assert [gpu.on_s for gpu in state.gpus] == [-30.0, 0.0]
    assert state.sessions[0].gpu_id == "g0"


def test_sessions_may_be_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, {key: STATE[key] for key in ("format", "gpus")}).sessions == []


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        (("gpus", 1, "gpu_id"), "g0", 'gpus[1].gpu_id="g0" must be unique; gpus[0] has it too'),
        (("gpus", 1, "gpu_type"), "h10", 'gpus[1].gpu_type="h10" must be a GPU type of the fleet; did you mean h100?'),
        (("gpus", 1, "node"), "0/2", 'gpus[1].node="0/2" must be "<pool index>/<node index>" of the fleet\'s pools'),
        (("gpus", 0, "on_s"), -25, "gpus[0].on_s=-25 must be a multiple of epoch_s=10"),
        (("gpus", 0, "on_s"), 10, "gpus[0].on_s=10 must be <= 0"),
        (("gpus", 0, "on_s"), True, "gpus[0].on_s=true must be a number"),
        (("gpus", 0, "off_s"), 1, "gpus[0].off_s is not a known key; did you mean on_s?"),
        (("sessions", 0, "gpu_id"), "g2", 'sessions[0].gpu_id="g2" must be a gpu_id of gpus; known are g0, g1'),
        (("sessions", 0, "session_id"), 7, "sessions[0].session_id=7 must be text; quote it"),
        (("format",), "epochal.state/2", "format=\"epochal.state/2\" must be 'epochal.state/1'"),
    ],
)
def test_mistake_is_told(place: tuple[str | int, ...], value: Any, expected: str, tmp_path: Path) -> None:
    state: Any = copy.deepcopy(STATE)
    parent = state
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    with pytest.raises(BadInputError) as caught:
        load(tmp_path, state)
    assert str(caught.value).splitlines()[0] == f"{tmp_path / 'state.json'}: {expected}"


def test_session_on_two_gpus_is_refused(tmp_path: Path) -> None:
    state = STATE | {"sessions": [{"session_id": "s1", "gpu_id": gpu} for gpu in ("g0", "g1")]}
    with pytest.raises(
        BadInputError, match=r"sessions\[1\].session_id=\"s1\" must be unique; sessions\[0\] has it too"
    ):
        load(tmp_path, state)


def test_node_with_more_gpus_than_fit_is_refused(tmp_path: Path) -> None:
    gpus = [{"gpu_id": f"g{i}", "gpu_type": "h100", "node": "0/0", "on_s": 0} for i in range(3)]
    with pytest.raises(BadInputError, match="gpus: 3 GPUs on node 0/0 must be at most 2, its gpus_per_node"):
        load(tmp_path, {"format": "epochal.state/1", "gpus": gpus})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n"format":', "state.json:2: must be JSON: Expecting value"),
        ("[]", "state.json: must be an object with format, gpus and sessions"),
        ("[" * 100_000, "state.json: is nested too deeply; it must be a flat object"),
    ],
)
def test_what_is_no_state_at_all_is_told(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        load(tmp_path, text)
    assert expected in str(caught.value)
