"""Four workers, twelve sessions that are steered, and a planner that scales out, migrates and scales in under them.

What clients get is compared, chunk by chunk, with what the ChunkModel makes of each session alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from runtime.client import Client
from runtime.recording import events
from runtime.recording.reading import read_events
from tests.e2e.command import ROOT
from tests.e2e.test_serve import served
from tests.e2e.viewers import PATIENCE_S, PROFILE, Viewer, until
from tests.ports import free_port

WORKERS, SESSIONS, STAYING = 4, 12, 9
PACE_S = 0.75  # of a client for each chunk: twelve of them leave two cores time for everything else
STEERS = ((6, None, "up"), (16, "blue square", ""))
PLANNER = {"scaling": {"service_level": 0.5, "horizon_epochs": 4, "scale_in_hold_s": 2.0}}  # quick to shrink

torch.set_num_threads(1)  # as workers have: with others, chunks are not the same bytes


def a_fleet_of_threes(path: Path) -> None:
    """The fleet of one machine, where no worker takes more than three of the sessions at once."""
    fleet = yaml.safe_load((ROOT / "examples/fleets/laptop.yaml").read_text())
    profile = fleet["profiles"][PROFILE]
    profile["latency_ms"]["cpu"] = profile["latency_ms"]["cpu"][: SESSIONS // WORKERS]
    fleet["pools"][0]["nodes"] = WORKERS
    fleet |= {"epoch_s": 1.0, "profiles": {PROFILE: profile}}
    path.write_text(yaml.safe_dump(fleet))


def test_chunks_are_what_they_must_be_while_workers_come_and_go(tmp_path: Path) -> None:
    state, fleet, planner = tmp_path / "state", tmp_path / "fleet.yaml", tmp_path / "planner.yaml"
    a_fleet_of_threes(fleet)
    planner.write_text(yaml.safe_dump(PLANNER))
    log = state / "events.jsonl"
    store = f"--store=127.0.0.1:{free_port()}"  # states travel between pairs of workers
    with served(state, f"--fleet={fleet}", f"--planner={planner}", store) as (place, _):
        client = Client(f"http://{place.host}:{place.port}")
        viewers = [Viewer(client, seed, PACE_S, STEERS if seed < STAYING else ()) for seed in range(SESSIONS)]
        asyncio.run(watched(viewers, log))
        lines = place.call("GET", "/metrics").body.decode().splitlines()

    holding = Holding()
    for _, event in read_events(log):
        holding.hear(event)
    assert holding.restarts == 0
    assert len(holding.has_served) == WORKERS
    assert holding.stops >= 2
    assert holding.places == SESSIONS
    assert holding.hand_overs >= 2
    counted = [line for line in lines if line.startswith("epochal_migrations_total{") and 'result="done"' in line]
    assert sum(float(line.split()[-1]) for line in counted) == holding.hand_overs
    assert any(line.startswith('epochal_migration_bytes_total{way="gloo"}') for line in lines)
    for viewer in viewers:
        viewer.check()


@dataclass
class Holding:
    """Which worker holds which session's state, in either memory, as the recording tells it. None stops with one."""

    where: dict[str, str] = field(default_factory=dict)
    under_way: dict[str, events.MoveBegan] = field(default_factory=dict)
    has_served: set[str] = field(default_factory=set)
    places: int = 0
    hand_overs: int = 0
    stops: int = 0
    restarts: int = 0

    def hear(self, event: events.Event) -> None:
        match event:
            case events.MoveBegan():
                self.under_way[event.session_id] = event
            case events.MoveEnded(session_id=session_id):
                target = self.under_way.pop(session_id).target
                self.places += event.move == "place"
                if target is not None:  # else it stays in its worker's host memory
                    self.hand_overs += self.where.get(session_id, target) != target
                    self.where[session_id] = target
                    self.has_served.add(target)
            case events.MoveFailed(session_id=session_id):
                del self.under_way[session_id]
            case events.SessionEnded(session_id=session_id):
                self.where.pop(session_id, None)
            case events.SessionRestarted():
                self.restarts += 1
            case events.GpuChanged(gpu_id=gpu_id, status="off"):
                self.stops += 1
                held = [name for name, worker in self.where.items() if worker == gpu_id]
                held += [name for name, move in self.under_way.items() if gpu_id in (move.source, move.target)]
                assert not held, f"{gpu_id} is stopped and holds {held}"
            case _:
                pass


async def watched(viewers: list[Viewer], log: Path) -> None:
    """Everybody comes; some leave and some rest until workers have been stopped; those who rest come back."""
    going, resting, leaving = viewers[:5], viewers[5:STAYING], viewers[STAYING:]

    def stops() -> int:
        return log.read_bytes().count(b'"status":"off"')

    async with asyncio.TaskGroup() as group, asyncio.timeout(2 * PATIENCE_S):
        for viewer in viewers:
            group.create_task(viewer.run())
        await until(lambda: all(len(viewer.digests) >= 6 for viewer in viewers), "all are served")
        for viewer in leaving:
            await viewer.video.end()
        for viewer in resting:
            await viewer.video.pause()
        await until(lambda: stops() >= 2, "workers are stopped")
        for viewer in resting:
            await viewer.video.resume()
        seen = [len(viewer.digests) for viewer in viewers]
        await until(
            lambda: all(len(v.digests) >= max(24, n + 8) for v, n in zip(viewers[:STAYING], seen, strict=False)),
            "those who stayed and those who came back go on",
        )
        for viewer in going + resting:
            await viewer.video.end()
    assert all(viewer.is_done for viewer in viewers)
