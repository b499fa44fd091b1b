"""A worker that is killed costs its own sessions a declared discontinuity, and nobody else anything.

Where its exit is seen, its sessions are placed again within 4 heartbeats and what a worker takes to load; where only
silence tells, after its lease.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml

from runtime.chunk_models.emulated import FRAMES, SIDE, Seal, mark_of, seal_of
from runtime.client import Chunk, Client, Updated
from runtime.recording import events
from runtime.recording.reading import read_events
from runtime.worker.process.config import HEARTBEAT_S
from runtime.worker.process.lease import LEASE_S
from tests.builders import FLEET
from tests.e2e.command import EPOCHAL, environment
from tests.e2e.test_serve import is_ready, processes, served
from tests.e2e.test_serve import until as sync_until
from tests.e2e.viewers import until
from tests.ports import free_port
from tests.runtime.gateway.live import Clients

SESSIONS = 4
PACE_S = 0.25
BUSY_S = 4.0  # that a machine with other work may take longer for what is a few messages
NAMES = ("h100-0-0-0", "h100-0-1-0")


def a_fleet(path: Path, seats: int) -> Path:
    """Two emulated workers, which are always there."""
    gpu_type = {"memory_gib": 0.5, "weights_gib": 0.375, "price_per_hour": 3.6, "startup_s": 4.0}
    pool = {"gpu_type": "h100", "nodes": 2, "gpus_per_node": 1, "gpus_min": 2, "host_memory_gib": 0.125}
    latency_ms = [40.0 + 20.0 * count for count in range(seats)]
    profile = {"chunk_s": PACE_S, "state_gib": 0.02, "latency_ms": {"h100": latency_ms}}
    changes = {"epoch_s": 1.0, "gpu_types": {"h100": gpu_type}, "pools": [pool], "profiles": {"a": profile}}
    path.write_text(yaml.safe_dump(FLEET | changes))
    return path


class Watcher:
    """A client, and what it has got of its session."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.session_id = ""
        self.chunks: list[tuple[float, Chunk]] = []  # when each came
        self.updated = False

    @property
    def lineage(self) -> int:
        return self.chunks[-1][1].lineage

    @property
    def again_s(self) -> float:
        """When the first chunk of the second lineage came."""
        return next(at_s for at_s, chunk in self.chunks if chunk.lineage == 1)

    def seals(self, lineage: int) -> list[Seal]:
        bodies = [chunk.body for _, chunk in self.chunks if chunk.lineage == lineage]
        return [seal_of(np.frombuffer(body, np.uint8).reshape(FRAMES, SIDE, SIDE, 3)) for body in bodies]

    async def run(self) -> None:
        created = await self._client.create(profile="a", prompt="a red circle", encoding="none", patience_s=60)
        self.session_id = created.session_id
        async with self._client.watch(created) as self.video:
            while (event := await self.video.next_event()) is not None:
                if isinstance(event, Chunk):
                    self.chunks.append((time.time(), event))
                    await asyncio.sleep(PACE_S)
                    await self.video.ack(event.seq)
                self.updated |= isinstance(event, Updated)

    def check(self, lineages: int) -> None:
        """Each number once and in order; each lineage from its first chunk on, and the second with a word of it."""
        assert [chunk.seq for _, chunk in self.chunks] == list(range(len(self.chunks)))
        assert [chunk.lineage for _, chunk in self.chunks if chunk.discontinuity] == list(range(1, lineages))
        assert not any(chunk.gap for _, chunk in self.chunks)
        for lineage in range(lineages):
            seals = self.seals(lineage)
            assert [seal.number for seal in seals] == list(range(len(seals)))


async def killed(place: Clients, log: Path, kill: Callable[[str], None]) -> tuple[float, float]:
    """Everybody plays and one steers; its worker is killed. When that was, and when all of its sessions were back."""
    client = Client(f"http://{place.host}:{place.port}")
    watchers = [Watcher(client) for _ in range(SESSIONS)]
    async with asyncio.TaskGroup() as group:
        for watcher in watchers:
            group.create_task(watcher.run())
        await until(lambda: all(len(watcher.chunks) >= 4 for watcher in watchers), "all are served")
        await watchers[0].video.update(prompt="a blue square", control="up")
        await until(lambda: watchers[0].updated, "it is steered")
        owners = {e.session_id: str(e.target) for _, e in read_events(log) if isinstance(e, events.MoveBegan)}
        worker = owners[watchers[0].session_id]
        theirs = [watcher for watcher in watchers if owners[watcher.session_id] == worker]
        others = [watcher for watcher in watchers if watcher not in theirs]
        assert theirs
        assert others
        killed_s = time.time()
        kill(worker)
        await until(lambda: all(watcher.lineage == 1 for watcher in theirs), "its sessions begin anew")
        back_s = max(watcher.again_s for watcher in theirs)
        counts = [len(watcher.chunks) for watcher in watchers]
        await until(lambda: all(len(w.chunks) >= n + 4 for w, n in zip(watchers, counts, strict=True)), "all go on")
        for watcher in watchers:
            await watcher.video.end()
    for watcher in watchers:
        watcher.check(lineages=2 if watcher in theirs else 1)
    for seal in watchers[0].seals(1)[-4:]:
        assert (seal.prompt, seal.control) == (mark_of("a blue square"), mark_of("up"))
    for watcher in others:
        assert any(killed_s <= at_s <= back_s for at_s, _ in watcher.chunks), "others go on meanwhile"
    return killed_s, back_s


def killer(state: Path) -> Callable[[str], None]:
    def kill(worker: str) -> None:
        (pid,) = processes(state, "worker", f"--name={worker}")
        os.kill(pid, signal.SIGKILL)

    return kill


def test_where_exits_are_seen_its_sessions_are_back_as_soon_as_another_is_loaded(tmp_path: Path) -> None:
    """Nobody else has room for them."""
    state, fleet = tmp_path / "state", a_fleet(tmp_path / "fleet.yaml", seats=SESSIONS // 2)
    log = state / "events.jsonl"
    with served(state, f"--fleet={fleet}", "--model=emulated") as (place, _):
        killed_s, back_s = asyncio.run(killed(place, log, killer(state)))
    told = [event for _, event in read_events(log)]
    began = next(event for event in told if isinstance(event, events.Began))
    starting_s = max(e.t_s for e in told if isinstance(e, events.GpuChanged) and e.status == "starting")
    joined_s = max(e.t_s for e in told if isinstance(e, events.WorkerJoined))
    lost_s = next(e.t_s for e in told if isinstance(e, events.WorkerLeft))
    assert lost_s - (killed_s - began.started_unix_s) < 2 * HEARTBEAT_S + BUSY_S
    assert back_s - killed_s - (joined_s - starting_s) < 4 * HEARTBEAT_S + BUSY_S


def test_where_only_silence_tells_they_are_back_after_a_lease(tmp_path: Path) -> None:
    """Others have room; nobody starts another worker."""
    state, fleet = tmp_path / "state", a_fleet(tmp_path / "fleet.yaml", seats=SESSIONS)
    with by_hand(state, fleet) as place:
        killed_s, back_s = asyncio.run(killed(place, state / "events.jsonl", killer(state)))
    assert LEASE_S - 2 * HEARTBEAT_S < back_s - killed_s < 1.01 * LEASE_S + 4 * HEARTBEAT_S + BUSY_S


@contextmanager
def by_hand(state: Path, fleet: Path) -> Iterator[Clients]:
    """A gateway, a controller that starts no worker, and two workers that somebody has started."""
    state.mkdir(mode=0o700)
    place = Clients(host="127.0.0.1", port=free_port())
    workers, chunks, gateway = (f"ipc://{state}/{name}.socket" for name in ("workers", "chunks", "gateway"))
    commands = [
        ("gateway", f"--http=127.0.0.1:{place.port}", f"--workers={chunks}", f"--controller={gateway}"),
        (
            "controller",
            f"--fleet={fleet}",
            f"--state={state}",
            f"--workers={workers}",
            f"--gateways={gateway}",
            "--provider=static",
            f"--record={state / 'events.jsonl'}",
        ),
    ]
    memory = ("--device-memory-mib=512", "--host-memory-mib=512")
    emulated = ("--model=emulated", f"--fleet={fleet}", f"--controller={workers}", f"--gateway={chunks}", *memory)
    commands += [("worker", f"--name={name}", *emulated) for name in NAMES]
    started = [subprocess.Popen([*EPOCHAL, *command, "--quiet"], env=environment()) for command in commands]
    try:
        sync_until(lambda: is_ready(place), "it is ready")
        with place.open:
            yield place
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()
