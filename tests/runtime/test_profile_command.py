"""`epochal profile`, the real command: it measures, and writes a fleet that our commands read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.chunk_models.measured_fleet import MeasuredDevice, MeasuredProfile, fleet_text
from runtime.chunk_models.transformer.weights import save
from scheduler.fleet_file import load_fleet
from scheduler.latency import seats
from tests.e2e.command import ROOT, environment, epochal
from tests.runtime.chunk_models.hosts import TINY, tiny_network

FAST = ("--batch-max", "2", "--repeats", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, tiny_network())
    return path


def test_what_is_measured_is_a_fleet_of_one(weights: Path, tmp_path: Path) -> None:
    done = epochal("profile", "--weights", weights, *FAST, "-o", "mine.yaml", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    fleet = load_fleet(tmp_path / "mine.yaml")
    assert list(fleet.gpu_types) == ["cpu"]
    assert list(fleet.profiles) == [one.name for one in TINY.resolutions]
    told = json.loads(done.stdout)
    for name, profile in fleet.profiles.items():
        table = (profile.latency_ms or {})["cpu"]
        assert len(table) == 2
        assert 0 < table[0] <= table[1]
        assert round(profile.state_gib * 2**30) == told["profiles"][name]["state_bytes"]
        assert profile.chunk_s == TINY.frames / TINY.frames_per_s
    medians = [one["median_ms"] for one in told["latencies"]]
    assert len(medians) == 4
    assert all(one["fastest_ms"] <= one["median_ms"] <= one["slowest_ms"] for one in told["latencies"])


def test_the_measured_fleet_says_that_one_session_is_served(weights: Path, tmp_path: Path) -> None:
    done = epochal("profile", "--weights", weights, *FAST, "--gpu-type", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "measured-fleet.yaml, with one mine" in done.stdout
    assert seats(load_fleet(tmp_path / "measured-fleet.yaml"), "mine").min() >= 1


def test_without_torch_the_fix_is_told(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from runtime.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "profile"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "torch: is not installed; pip install 'epochal[runtime]'\n"


def test_other_commands_do_not_load_torch() -> None:
    code = "import sys, runtime.cli.main; sys.exit(any(name in sys.modules for name in ('torch', 'msgspec')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--device", "abacus"), '--device: "abacus" must be cpu, cuda or cuda:N'),
        (("--device", "meta"), '--device: "meta" must be cpu, cuda or cuda:N'),
        (("--device", "cuda:99"), '--device: "cuda:99" is not there; torch sees '),
        (("--weights", "absent.safetensors"), "absent.safetensors: must be a readable safetensors file"),
        (("-o", "nowhere/mine.yaml"), "-o: nowhere must be a folder; make it first"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = epochal("profile", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_figure_of_a_fleet_says_whether_it_was_measured(tmp_path: Path) -> None:
    measured = MeasuredDevice(
        gpu_type="h100",
        description="a test",
        memory_bytes=80 * 2**30,
        weights_bytes=3 * 2**28,
        startup_s=0.00001,
        copy_gb_s=48.123456,
        profiles=[MeasuredProfile(name="p", chunk_s=0.75, state_bytes=2**30 + 1, latency_ms=[0.00001, 12345.678])],
    )
    (tmp_path / "fleet.yaml").write_text(fleet_text(measured, {"how": "by hand"}))
    fleet = load_fleet(tmp_path / "fleet.yaml")
    assert fleet.gpu_types["h100"].weights_gib == 0.75
    assert fleet.profiles["p"].latency_ms == {"h100": [0.0001, 12346]}
    assert fleet.profiles["p"].state_gib == pytest.approx(1 + 2**-30, abs=1e-9)
    assert fleet.target.chunk_latency_ms == 750
    told = (tmp_path / "fleet.yaml").read_text()
    assert "price_per_hour: 1.00              # assumed" in told
    assert "# measured: loading and warming up" in told
