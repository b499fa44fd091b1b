"""Fleet files: what is read, what is refused and how it is told, and what overrides what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scheduler.fleet import Fleet
from scheduler.fleet_file import load_fleet, with_overrides
from traces.errors import BadInputError

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleets"

FLEET = """\
format: epochal.fleet/1
epoch_s: 5
batching: grouped
gpu_types:
  h100: {memory_gib: 80, weights_gib: 8, price_per_hour: 2.50, startup_s: 60}
pools:
  - {gpu_type: h100, nodes: 8, gpus_per_node: 8, gpus_min: 1}
links:
  {device_host_gb_s: 50, device_device_gb_s: 300, node_node_gb_s: 35, latency_ms: 8}
default_profile: wan
profiles:
  wan:
    chunk_s: 0.75
    state_gib: 3.2
    latency_ms: {h100: [215, 400, 590]}
target: {chunk_latency_ms: 750, first_chunk_ms: 3000}
budget: {moves_per_epoch: 16}
"""
TABLE = "    latency_ms: {h100: [215, 400, 590]}\n"

MISTAKES: dict[str, tuple[str, str, str]] = {
    "negative": ("3.2", "-3", "14: profiles.wan.state_gib=-3 must be > 0"),
    "zero": ("0.75", "0", "13: profiles.wan.chunk_s=0 must be > 0"),
    "negative price": ("2.50", "-1", "5: gpu_types.h100.price_per_hour=-1 must be >= 0"),
    "not a number": ("3.2", ".nan", "14: profiles.wan.state_gib=nan must be a finite number"),
    "infinite": ("[215", "[.inf", "15: profiles.wan.latency_ms.h100[0]=inf must be a finite number"),
    "text for a number": ("epoch_s: 5", 'epoch_s: "5"', '2: epoch_s="5" must be a number'),
    "boolean for a number": ("epoch_s: 5", "epoch_s: yes", "2: epoch_s=true must be a number"),
    "boolean for a count": ("nodes: 8", "nodes: true", "7: pools[0].nodes=true must be a whole number"),
    "fraction for a count": ("nodes: 8", "nodes: 1.5", "7: pools[0].nodes=1.5 must be a whole number"),
    "nothing for a number": ("0.75", "", "13: profiles.wan.chunk_s=null must be a number"),
    "number for text": ("default_profile: wan", "default_profile: 7", "10: default_profile=7 must be text; quote it"),
    "list for a mapping": (
        "target: {chunk_latency_ms: 750, first_chunk_ms: 3000}",
        "target: [1]",
        "16: target is a list; it must be a mapping",
    ),
    "mapping for a list": (
        "h100: [215, 400, 590]",
        "h100: {a: 1}",
        "15: profiles.wan.latency_ms.h100 is a mapping; it must be a list",
    ),
    "unknown key": (
        "moves_per_epoch",
        "move_per_epoch",
        "17: budget.move_per_epoch is not a known key; did you mean moves_per_epoch?",
    ),
    "unknown key in a profile": (
        "state_gib",
        "state_gb",
        "14: profiles.wan.state_gb is not a known key; did you mean state_gib?",
    ),
    "unknown top key": (
        "batching: grouped",
        "batching: grouped\nlink: 1",
        "4: link is not a known key; did you mean links?",
    ),
    "missing key": ("chunk_s: 0.75", "target_ms: 3", "12: profiles.wan.chunk_s is missing; it must be given"),
    "missing section": (
        "target: {chunk_latency_ms: 750, first_chunk_ms: 3000}\n",
        "",
        " target is missing; it must be given",
    ),
    "duplicate key": ("epoch_s: 5", "epoch_s: 5\nepoch_s: 6", "3: epoch_s is given twice, first in line 2; keep one"),
    "duplicate profile": (
        "target:",
        "  wan: {}\ntarget:",
        "16: profiles.wan is given twice, first in line 12; keep one",
    ),
    "key that is no text": ("profiles:", "profiles:\n  480: {}", "12: profiles: key 480 must be text; quote it"),
    "another version": ("fleet/1", "fleet/2", "1: format=\"epochal.fleet/2\" must be 'epochal.fleet/1'"),
    "another batching": ("grouped", "group", "3: batching=\"group\" must be 'grouped', 'packed' or 'turboserve'"),
    "decreasing table": (
        "400, 590",
        "600, 590",
        "15: profiles.wan.latency_ms.h100[2]=590 must be >= 600, the entry before it",
    ),
    "empty table": (
        "[215, 400, 590]",
        "[]",
        "15: profiles.wan.latency_ms.h100 is empty; it must have an entry for a batch of 1",
    ),
    "pool of unknown type": (
        "gpu_type: h100",
        "gpu_type: h10",
        '7: pools[0].gpu_type="h10" must be one of gpu_types; did you mean h100?',
    ),
    "table of unknown type": (
        "{h100: [215",
        "{h200: [1], h100: [215",
        "15: profiles.wan.latency_ms.h200 must name one of gpu_types; did you mean h100?",
    ),
    "runs nowhere": (
        "{h100: [215, 400, 590]}",
        "{}",
        "15: profiles.wan.latency_ms must have figures for a GPU type of the pools (h100)",
    ),
    "fits nowhere": ("3.2", "73", "14: profiles.wan.state_gib=73 must be <= 72, the memory beside the weights"),
    "weights fill the memory": (
        "weights_gib: 8,",
        "weights_gib: 80,",
        "5: gpu_types.h100.weights_gib=80 must be < memory_gib=80",
    ),
    "pool without end": (
        "nodes: 8",
        "nodes: 125001",
        "7: pools[0].nodes=125001 must be such that nodes * gpus_per_node <= 1000000",
    ),
    "minimum beyond the pool": ("gpus_min: 1", "gpus_min: 65", "7: pools[0].gpus_min=65 must be <= 64"),
    "unknown default": (
        "default_profile: wan",
        "default_profile: won",
        '10: default_profile="won" must be one of profiles; did you mean wan?',
    ),
    "epoch of half microseconds": (
        "epoch_s: 5",
        "epoch_s: 5.0000005",
        "2: epoch_s=5.0000005 must be a whole number of microseconds",
    ),
    "no pools": (
        "pools:\n  - {gpu_type: h100, nodes: 8, gpus_per_node: 8, gpus_min: 1}",
        "pools: []",
        "6: pools is empty; it must have at least one entry",
    ),
    "packed without its costs": ("grouped", "packed", " packed is missing; batching=packed must have it"),
    "turboserve without its table": (
        "grouped",
        "turboserve",
        "12: profiles.wan.base_ms is missing; batching=turboserve must have it",
    ),
    "packed part missing for a type": (
        TABLE,
        "    per_session_ms: {h100: 5}\npacked: {}\n",
        "15: profiles.wan.per_session_ms.h100 must have a counterpart; add packed.h100",
    ),
    "broken YAML": ("nodes: 8,", "nodes: [8,", "7: must be YAML: expected ',' or ']'"),
    "two documents": ("target:", "---\ntarget:", "16: must be YAML: but found another document"),
}


def told(folder: Path, text: str | bytes) -> str:
    path = folder / "fleet.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BadInputError) as caught:
        load_fleet(path)
    return str(caught.value).replace(str(path), "fleet.yaml")


def read(folder: Path, text: str) -> Fleet:
    path = folder / "fleet.yaml"
    path.write_text(text)
    return load_fleet(path)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_with_its_line(name: str, tmp_path: Path) -> None:
    old, new, expected = MISTAKES[name]
    assert old in FLEET
    text = FLEET.replace(old, new, 1)
    if "packed:" in text:
        text = text.replace("grouped", "packed")
    assert f"fleet.yaml:{expected}" in told(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "fleet.yaml: must be a mapping of keys such as format, epoch_s, pools; it is empty"),
        ("a,b\n", 'fleet.yaml: must be a mapping of keys such as format, epoch_s, pools; it is "a,b"'),
        ("[1, 2]", "fleet.yaml: must be a mapping of keys such as format, epoch_s, pools; it is a list"),
        (b"format: a\nepoch_s: \xff\n", "fleet.yaml:2: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("[" * 5000, "fleet.yaml: is nested too deeply"),
        ("a: \x07", "fleet.yaml: must be YAML: "),
        (
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(7)),
            "fleet.yaml: must be YAML: more than 200000 values",
        ),
    ],
)
def test_what_is_no_fleet_at_all_is_told(content: str | bytes, expected: str, tmp_path: Path) -> None:
    assert told(tmp_path, content).startswith(expected)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"absent\.yaml: cannot be read: No such file or directory"):
        load_fleet(tmp_path / "absent.yaml")


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = FLEET.replace("3.2", "-3").replace("400, 590", "600, 590").replace("nodes: 8", "nods: 8")
    assert [line.split(" ")[0] for line in told(tmp_path, text).splitlines()] == [
        "fleet.yaml:7:",
        "fleet.yaml:7:",
        "fleet.yaml:14:",
        "fleet.yaml:15:",
    ]


def test_at_most_twenty_mistakes_are_told(tmp_path: Path) -> None:
    text = FLEET + "".join(f"zz{i}: 1\n" for i in range(30))
    lines = told(tmp_path, text).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more"


def test_whole_numbers_are_taken_where_fractions_may_stand(tmp_path: Path) -> None:
    fleet = read(tmp_path, FLEET)
    assert fleet.epoch_s == 5.0
    assert isinstance(fleet.epoch_s, float)


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    assert read(tmp_path, FLEET.replace("epoch_s: 5", "epoch_s: 1e1")).epoch_s == 10.0


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + FLEET).epoch_s == 5.0


def test_anchors_and_merged_keys_are_followed(tmp_path: Path) -> None:
    text = FLEET.replace("  wan:\n", "  wan: &wan\n").replace(
        "target:", "  tall:\n    <<: *wan\n    state_gib: 7\ntarget:", 1
    )
    fleet = read(tmp_path, text)
    assert fleet.profiles["tall"].state_gib == 7.0
    assert fleet.profiles["tall"].chunk_s == 0.75


def contradicts(given: Any, effective: Any) -> bool:
    """Defaults may be added, nothing else may differ."""
    if isinstance(given, dict):
        return not isinstance(effective, dict) or any(contradicts(v, effective.get(k)) for k, v in given.items())
    if isinstance(given, list):
        return (
            not isinstance(effective, list) or len(given) != len(effective) or any(map(contradicts, given, effective))
        )
    return bool(given != effective)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_example_is_valid_and_its_effective_form_adds_only_defaults(path: Path) -> None:
    fleet = load_fleet(path)
    effective = fleet.effective()
    assert not contradicts(yaml.safe_load(path.read_text()), effective)
    assert Fleet.model_validate(effective) == fleet
    assert list(effective["profiles"]) == list(fleet.profiles)


def test_there_is_an_example_of_each_batching() -> None:
    batchings = {load_fleet(path).batching for path in EXAMPLES.glob("*.yaml")}
    assert batchings == {"grouped", "packed", "turboserve"}


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    fleet = read(tmp_path, FLEET)
    environment = {"EPOCHAL_EPOCH_S": "7", "EPOCHAL_TARGET__CHUNK_LATENCY_MS": "500", "PATH": "/bin"}
    changed, overrides = with_overrides(fleet, {"epoch_s": 10.0}, environment)
    assert changed.epoch_s == 10.0
    assert changed.target.chunk_latency_ms == 500.0
    assert changed.target.first_chunk_ms == 3000.0
    assert overrides == {
        "epoch_s": "set on the command line",
        "target": "target.chunk_latency_ms set by the environment (EPOCHAL_TARGET__CHUNK_LATENCY_MS)",
    }


def test_nothing_overridden_is_the_same_fleet(tmp_path: Path) -> None:
    fleet = read(tmp_path, FLEET)
    assert with_overrides(fleet, {}, {"HOME": "/"}) == (fleet, {})


def test_environment_reaches_profiles_pools_and_unset_limits(tmp_path: Path) -> None:
    environment = {
        "EPOCHAL_PROFILES__WAN__TARGET_MS": "600",
        "EPOCHAL_POOLS__0__GPUS_MIN": "2",
        "EPOCHAL_BUDGET__GIB_PER_EPOCH": "50",
        "EPOCHAL_BUDGET__MOVES_PER_EPOCH": "null",
    }
    fleet, _ = with_overrides(read(tmp_path, FLEET), {}, environment)
    assert fleet.target_ms("wan") == 600.0
    assert fleet.pools[0].gpus_min == 2
    assert fleet.budget.gib_per_epoch == 50.0
    assert fleet.budget.moves_per_epoch is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"EPOCHAL_EPOCH": "7"}, "EPOCHAL_EPOCH: is not a known variable; did you mean EPOCHAL_EPOCH_S?"),
        ({"EPOCHAL_EPOCH_S": "-7"}, "EPOCHAL_EPOCH_S: epoch_s=-7 must be > 0"),
        ({"EPOCHAL_EPOCH_S": "soon"}, 'EPOCHAL_EPOCH_S: epoch_s="soon" must be a number'),
        ({"EPOCHAL_POOLS__0__GPUS_MIN": "65"}, "EPOCHAL_POOLS__0__GPUS_MIN: pools[0].gpus_min=65 must be <= 64"),
        ({"EPOCHAL_EPOCH_S": "[1"}, "EPOCHAL_EPOCH_S:1: must be YAML"),
    ],
)
def test_wrong_variable_is_named(environment: dict[str, str], expected: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        with_overrides(read(tmp_path, FLEET), {}, environment)
    assert str(caught.value).startswith(expected)


def test_wrong_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--epoch-s: epoch_s=0 must be > 0"):
        with_overrides(read(tmp_path, FLEET), {"epoch_s": 0.0})


def test_variable_that_could_mean_two_keys_is_refused(tmp_path: Path) -> None:
    text = FLEET.replace("target:", "  w-n:\n    chunk_s: 1\n    state_gib: 1\n" + TABLE + "target:", 1)
    text = text.replace("target:", "  w.n:\n    chunk_s: 1\n    state_gib: 1\n" + TABLE + "target:", 1)
    with pytest.raises(BadInputError, match=r"could mean profiles.w-n.chunk_s and profiles.w.n.chunk_s"):
        with_overrides(read(tmp_path, text), {}, {"EPOCHAL_PROFILES__W_N__CHUNK_S": "1"})
