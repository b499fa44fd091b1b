"""Workers that are started on one machine share its CUDA devices in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.controller.process.fleet_workers import FleetWorkers, ProviderName
from runtime.provider.devices import devices_here, named_devices
from scheduler.fleet_file import load_fleet
from tests.e2e.command import ROOT
from traces.errors import BadInputError

FLEET = load_fleet(ROOT / "examples/fleets/laptop.yaml")  # of four


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0,1", ("cuda:0", "cuda:1")),
        ("GPU-6f0a,GPU-77c1, 3", ("cuda:0", "cuda:1", "cuda:2")),
        ("", ()),
        ("0,-1,1", ("cuda:0",)),
    ],
)
def test_those_that_the_environment_names(visible: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    assert devices_here({"CUDA_VISIBLE_DEVICES": visible}, tmp_path) == expected


def test_without_that_those_of_the_driver(tmp_path: Path) -> None:
    driver = tmp_path / "gpus"
    assert devices_here({}, driver) == ()
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (driver / bus).mkdir(parents=True)
    assert devices_here({}, driver) == ("cuda:0", "cuda:1")


def test_those_that_are_chosen() -> None:
    assert named_devices("--devices", "cuda:1, cpu,cuda") == ("cuda:1", "cpu", "cuda")
    for wrong in ("", "gpu", "cuda:", "cuda:0,,cpu"):
        with pytest.raises(BadInputError, match="must be cpu, cuda or cuda:N"):
            named_devices("--devices", wrong)


def devices(
    *options: str, provider: ProviderName = "local", there: tuple[str, ...] = ("cuda:0", "cuda:1")
) -> list[str]:
    """What each worker of the fleet is told."""
    workers = FleetWorkers(
        fleet=FLEET, folder=Path(), controller="c", gateway="g", provider=provider, options=options, devices=there
    )
    said = [[option for option in own if option.startswith("--device=")] for own in workers.own_options().values()]
    return ["".join(each) for each in said]


def test_workers_take_them_in_turn() -> None:
    assert devices() == ["--device=cuda:0", "--device=cuda:1"] * 2


def test_nobody_is_told_where_there_is_none_or_another_is_named_or_started_elsewhere() -> None:
    assert devices(there=()) == [""] * 4
    assert devices("--device=cpu") == [""] * 4
    assert devices(provider="static") == [""] * 4
