"""`epochal serve` as a user has it: real processes, sessions over HTTP and WebSocket, and what goes wrong meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection

from tests.e2e.command import EPOCHAL, environment
from tests.runtime.gateway.live import Chunk, Place, chunks, free_port
from tests.runtime.worker.live_sessions import Script, reference

PATIENCE_S = 120.0
DISCONTINUITY = 2


@contextmanager
def served(state: Path, *options: str) -> Iterator[tuple[Place, subprocess.Popen[str]]]:
    port = free_port()
    arguments = ["serve", f"--http=127.0.0.1:{port}", f"--state={state}", *options]
    process = subprocess.Popen([*EPOCHAL, *arguments], env=environment(), stderr=subprocess.PIPE, text=True)
    place = Place(stage=None, process=process, host="127.0.0.1", port=port)
    try:
        until(lambda: is_ready(place), "it is ready")
        with place.open:
            yield place, process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=PATIENCE_S)
        finally:
            for pid in processes(state):
                os.kill(pid, signal.SIGKILL)


def until(there: Callable[[], bool], claim: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s, f"not in time: {claim}"
        time.sleep(0.05)


def is_ready(place: Place) -> bool:
    try:
        return place.call("GET", "/ready").status == 200
    except OSError:
        return False


def processes(state: Path, *words: str) -> list[int]:
    """Whose command names this folder and these words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if any(str(state) in part for part in command) and set(words) <= set(command):
                found.append(int(entry.name))
    return found


class Watched:
    """One session and its client, who compares every chunk with what the ChunkModel alone makes."""

    def __init__(self, place: Place, seed: int) -> None:
        self.script = Script(model="bundled", profile="shapes-32", seed=seed, prompt="red circle")
        self.session = place.create(profile="shapes-32", seed=seed, prompt="red circle")
        self.opened: ClientConnection = place.start(self.session)
        self.seq, self.lineage, self.first = 0, 0, 0

    def take(self, count: int) -> list[Chunk]:
        found = chunks(self.opened, count)
        for chunk in found:
            assert chunk.seq == self.seq
            assert (chunk.lineage > self.lineage) == bool(chunk.flags & DISCONTINUITY and chunk.seq > 0)
            if chunk.lineage > self.lineage:
                self.lineage, self.first = chunk.lineage, chunk.seq
            number = chunk.seq - self.first
            assert hashlib.sha256(chunk.body).digest() == reference(self.script).digest(number), f"chunk {number}"
            self.seq += 1
        return found


def test_sessions_outlive_the_controller_and_begin_anew_after_their_worker(tmp_path: Path) -> None:
    with served(tmp_path / "state", "--workers=2") as (place, process):
        state = tmp_path / "state"
        watched = [Watched(place, seed) for seed in range(4)]
        for each in watched:
            each.take(4)
        (controller,) = processes(state, "controller")
        os.kill(controller, signal.SIGKILL)
        for each in watched:
            each.take(4)
        until(lambda: processes(state, "controller") not in ([], [controller]), "another controller has begun")
        until(lambda: is_ready(place), "it is ready again")
        for each in watched:
            each.take(30)
        assert [each.lineage for each in watched] == [0, 0, 0, 0]

        for worker in processes(state, "worker"):
            os.kill(worker, signal.SIGKILL)
        for each in watched:
            while each.lineage == 0:
                each.take(1)
            each.take(4)

        gone = watched.pop()
        token = gone.session["token"]
        assert place.call("DELETE", f"/v1/sessions/{gone.session['session_id']}", token=token).status in (202, 204)
        until(
            lambda: place.call("GET", f"/v1/sessions/{gone.session['session_id']}", token=token).status == 404,
            "the session is no more",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert processes(state) == []


def test_sessions_are_there_when_it_is_served_again(tmp_path: Path) -> None:
    """Their states are not: they begin anew, under the same names and tokens."""
    state = tmp_path / "state"
    with served(state, "--workers=1") as (place, _):
        session: dict[str, Any] = dict(place.create(profile="shapes-48", prompt="blue square"))
        chunks(place.start(session), 2)
    with served(state, "--workers=1") as (place, _):
        found = chunks(place.start(session), 2)
        assert found[0].lineage > 0
