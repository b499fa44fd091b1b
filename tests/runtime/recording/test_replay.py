"""A run that was recorded is simulated as the same demand, and the same every time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from bench.world.fleet import FLEET
from bench.world.life import misfortune
from bench.world.world import World
from runtime.cli.main import app
from runtime.controller.controller import Controller, Happening
from runtime.controller.step import Step
from runtime.recording.events import Event, MoveBegan, MoveEnded, MoveFailed, RoundsMeasured, SessionRestarted, to_line
from runtime.recording.live_run import LiveRun
from runtime.recording.recorder import Recorder
from runtime.recording.replay import replay
from runtime.recording.runs import read_runs
from scheduler.planner_settings import PlannerSettings
from tests.runtime.recording.recorded import joined
from traces.store import read_trace

SEEDS = range(3)
SEEDS_MAX = 100  # after so many lives every kind of move has come to its end, and some have failed


class RecordedWorld(World):
    """The simulated world, with what its controllers would record, and who they thought was active."""

    def __init__(self, seed: int, path: Path) -> None:
        self.log: list[Event] = []
        self.active: dict[str, float] = {}  # since when
        self.idle: set[str] = set()
        self.moving: set[str] = set()  # as the log tells
        self.periods: list[tuple[str, float, float]] = []
        super().__init__(seed, path)

    def begun(self, controller: Controller, step: Step) -> None:
        super().begun(controller, step)
        self.moving = set[str]()
        self.recorder = Recorder(FLEET, controller.truth, self.now_s)
        self._tell([self.recorder.began(PlannerSettings(), "1", 1e9 + self.now_s)])
        self._tell(self.recorder.begun(step, self.now_s))

    def took(self, controller: Controller, heard: Sequence[Happening], steps: Sequence[Step]) -> None:
        super().took(controller, heard, steps)
        if self._is_older:
            return
        for happening, step in zip(heard, steps, strict=True):
            self._tell(self.recorder.heard(happening, step, self.now_s))
        self._look(controller)
        flights = {str(flight.move.session_id) for flight in controller._execution.flights}
        ending = {name for name, known in controller._books.known.items() if known.ending}
        assert self.moving - ending == flights - ending, "a move is under way that the log does not tell of, or no more"

    def _tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.log.append(event)
            match event:
                case MoveBegan():
                    assert event.session_id not in self.moving
                    self.moving.add(event.session_id)
                case MoveEnded() | MoveFailed():
                    self.moving.remove(event.session_id)

    def _look(self, controller: Controller) -> None:
        """What the controller believes of every session; what it has not heard of since it began is as it was."""
        known = controller._books.known
        for name, each in known.items():
            new = name not in self.active and name not in self.idle
            if new or (each.heard and each.active and name in self.idle):
                self.idle.discard(name)
                self.active[name] = self.now_s
            elif each.heard and not each.active and name in self.active:
                self._idles(name)
                self.idle.add(name)
        for name in [name for name in self.active if name not in known]:
            self._idles(name)
        self.idle &= set(known)

    def _idles(self, name: str) -> None:
        since_s = self.active.pop(name)
        if round(since_s, 6) < round(self.now_s, 6):
            self.periods.append((name, since_s, self.now_s))


@cache
def recorded(seed: int) -> RecordedWorld:
    with tempfile.TemporaryDirectory() as folder:
        world = RecordedWorld(seed, Path(folder) / "journal")
        for _ in range(300):
            misfortune(world)
            world.step()
        world.close()
    for name in list(world.active):
        world._idles(name)
    world.log += world.recorder.ended(world.now_s)
    return world


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> RecordedWorld:
    return recorded(request.param)


def written(world: RecordedWorld, folder: Path) -> Path:
    path = folder / "events.jsonl"
    path.write_bytes(b"".join(map(to_line, world.log)))
    return path


def run_of(world: RecordedWorld, folder: Path) -> LiveRun:
    (run,) = read_runs(written(world, folder))
    return run


def test_the_simulated_run_has_the_sessions_and_active_periods_of_the_live_one(
    world: RecordedWorld, tmp_path: Path
) -> None:
    run = run_of(world, tmp_path)
    trace = run.trace("log")
    wanted = pl.DataFrame(joined(world.periods), schema=["session_id", "start_s", "end_s"], orient="row").sort(
        "start_s", "session_id"
    )
    found = replay(run, trace, None, {}).outcome.tables.periods.sort("start_s", "session_id")
    assert found["session_id"].to_list() == wanted["session_id"].to_list()
    for name in ("start_s", "end_s"):
        assert found[name].to_list() == pytest.approx(wanted[name].to_list(), abs=2e-6)


def test_moves_take_time_and_lost_states_begin_lineages(world: RecordedWorld) -> None:
    assert all(event.seconds > 0 for event in world.log if isinstance(event, MoveEnded)), "nothing moves at once"
    lineages: dict[str, int] = {}
    for event in world.log:
        if isinstance(event, SessionRestarted):
            assert event.lineage == lineages.get(event.session_id, 0) + 1
            lineages[event.session_id] = event.lineage
    there = world.control.controller.truth.sessions
    assert {name: owned.lineage for name, owned in there.items() if owned.lineage} == {
        name: lineage for name, lineage in lineages.items() if name in there
    }


def test_moves_of_every_kind_were_seen() -> None:
    wanted = {"place", "resume", "offload", "migrate", "failed"}
    seen = set[str]()
    for seed in range(SEEDS_MAX):
        seen |= {event.move for event in recorded(seed).log if isinstance(event, MoveEnded)}
        seen |= {"failed" for event in recorded(seed).log if isinstance(event, MoveFailed)}
        if seen == wanted:
            return
    raise AssertionError(f"never seen: {wanted - seen}")


def test_another_planner_is_another_run(tmp_path: Path) -> None:
    run = run_of(recorded(0), tmp_path)
    trace = run.trace("log")
    as_it_was = replay(run, trace, None, {})
    run.planner = PlannerSettings.model_validate({"pay": False})  # no GPU starts
    changed = replay(run, trace, None, {})
    assert changed.predicted.gpu_hours < as_it_was.predicted.gpu_hours
    assert changed.live == as_it_was.live


def called(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def test_equal_logs_give_equal_output(tmp_path: Path) -> None:
    path = written(recorded(0), tmp_path)
    outputs = [called(path, "--format=json", "-o", tmp_path / f"{turn}.json") for turn in range(2)]
    assert [done.exit_code for done in outputs] == [0, 0]
    assert outputs[0].stdout == outputs[1].stdout
    assert (tmp_path / "0.json").read_bytes() == (tmp_path / "1.json").read_bytes()
    told = json.loads(outputs[0].stdout)
    assert (told["format"], told["policy"]) == ("epochal.replay/1", "as-recorded")
    assert told["live"]["sessions"] == told["predicted"]["sessions"] == told["summary"]["sessions"]


def test_the_demand_alone_is_a_trace_of_ours(tmp_path: Path) -> None:
    path, trace = written(recorded(0), tmp_path), tmp_path / "demand.csv"
    assert called(path, "--trace-only", "-o", trace).exit_code == 0
    demand = read_trace(trace)
    assert demand.warnings == ()
    assert demand.periods.equals(run_of(recorded(0), tmp_path).trace("log").periods)


def test_measured_and_predicted_stand_side_by_side_for_any_policy(tmp_path: Path) -> None:
    done = called(written(recorded(0), tmp_path), "--policy=fixed-least-loaded", "--quiet")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "predicted (fixed-least-loaded)" in done.stdout
    assert "GPU-seconds" in done.stdout


def test_rounds_that_are_not_as_the_fleet_says_are_told(tmp_path: Path) -> None:
    path = written(recorded(0), tmp_path)
    gpu = next(name for name in recorded(0).control.controller.snapshot().gpus)
    first, *others = path.read_bytes().splitlines(keepends=True)
    for seconds, told in ((0.60, False), (0.73, True), (0.47, True)):
        measured = RoundsMeasured(t_s=0.0, gpu_id=gpu, content={"a": 2}, rounds=5.0, seconds=seconds)
        path.write_bytes(first + to_line(measured) + b"".join(others))
        done = called(path)
        assert ("a on h100: rounds took" in done.stderr) == told
        assert "2 a on h100" in done.stdout
    assert "a on h100: rounds took" not in called(path, "--drift-max=0.3").stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--policy=epocal",), "--policy: "),
        (("--set=work=3",), "--set: is for a policy that --policy names"),
        (("--run=2",), "--run: 2 must be 1 to 1"),
        (("--run=0",), "--run: 0 must be"),
        (("--trace-only",), "--trace-only: needs -o TRACE"),
        (("--trace-only", "-o", "demand.txt"), "ending=.txt must be one of"),
        (("--drift-max=nan",), "--drift-max: nan must be a finite number"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    done = called(written(recorded(0), tmp_path), *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    absent = called(tmp_path / "absent.jsonl")
    assert absent.exit_code == 2
    assert "absent.jsonl: cannot be read" in absent.stderr
