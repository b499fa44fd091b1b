"""`epochal serve` as a user has it: real processes, sessions over HTTP and WebSocket, and what goes wrong meanwhile."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from runtime.gateway.framing import Framed, unframed
from tests.e2e.command import EPOCHAL, environment, epochal
from tests.ports import free_port
from tests.runtime.gateway.live import ADMIN_TOKEN, Clients, chunks
from tests.runtime.worker.live_sessions import Script, reference

PATIENCE_S = 120.0
COMPARED = 40  # chunks of each lineage


@contextmanager
def served(state: Path, *options: str) -> Iterator[tuple[Clients, subprocess.Popen[str]]]:
    port = free_port()
    arguments = ["serve", f"--http=127.0.0.1:{port}", f"--state={state}", *options]
    process = subprocess.Popen([*EPOCHAL, *arguments], env=environment(), stderr=subprocess.PIPE, text=True)
    place = Clients(host="127.0.0.1", port=port)
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


def is_ready(place: Clients) -> bool:
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


class Watched(threading.Thread):
    """One session and its client, who compares every chunk with what the ChunkModel alone makes."""

    def __init__(self, place: Clients, seed: int) -> None:
        super().__init__(daemon=True)
        self.script = Script(model="bundled", profile="shapes-32", seed=seed, prompt="red circle")
        self.session = place.create(profile="shapes-32", seed=seed, prompt="red circle")
        self.opened: ClientConnection = place.start(self.session)
        self.seq, self.lineage, self.first = 0, 0, 0
        self.wrong: str | None = None
        self.digests: list[tuple[int, bytes]] = []  # number and digest, of all lineages
        self.start()

    def run(self) -> None:
        """Until the connection is closed: it reads whatever comes, as a client does."""
        with suppress(ConnectionClosed):
            for data in self.opened:
                if isinstance(data, bytes):
                    self._take(unframed(data))

    def _take(self, chunk: Framed) -> None:
        if chunk.seq != self.seq:
            self.wrong = self.wrong or f"chunk {chunk.seq} came instead of {self.seq}"
        if chunk.lineage > self.lineage:
            if not chunk.discontinuity:
                self.wrong = self.wrong or f"lineage {chunk.lineage} begins without a word"
            self.lineage, self.first = chunk.lineage, chunk.seq
        self.digests.append((chunk.seq - self.first, hashlib.sha256(chunk.body).digest()))
        self.seq = chunk.seq + 1

    def more(self, count: int) -> None:
        """Until so many more have come."""
        wanted = self.seq + count
        until(lambda: self.seq >= wanted, f"{count} more chunks of {self.session['session_id']}")

    def check(self) -> None:
        """The first chunks of each lineage; a reference takes as long as the chunks have."""
        assert self.wrong is None
        for number, digest in list(self.digests):
            assert number >= COMPARED or digest == reference(self.script).digest(number), f"chunk {number}"


def test_sessions_outlive_the_controller_and_begin_anew_after_their_worker(tmp_path: Path) -> None:
    with served(tmp_path / "state", "--workers=2") as (place, process):
        state = tmp_path / "state"
        watched = [Watched(place, seed) for seed in range(4)]
        for each in watched:
            each.more(4)
        (controller,) = processes(state, "controller")
        os.kill(controller, signal.SIGKILL)
        for each in watched:
            each.more(4)
        until(lambda: processes(state, "controller") not in ([], [controller]), "another controller has begun")
        until(lambda: is_ready(place), "it is ready again")
        for each in watched:
            each.more(10)
        assert [each.lineage for each in watched] == [0, 0, 0, 0]

        for worker in processes(state, "worker"):
            os.kill(worker, signal.SIGKILL)
        until(lambda: all(each.lineage > 0 for each in watched), "all have begun anew")
        for each in watched:
            each.more(4)
            each.opened.send('{"type": "session.pause"}')
        for each in watched:
            each.check()

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


def test_an_operator_approves_what_costs_money(tmp_path: Path) -> None:
    """One worker holds four of five sessions: they are served, and the fifth waits until another may be started."""
    token = tmp_path / "token"
    token.write_text(ADMIN_TOKEN)
    options = ("--workers=2", "--model=emulated", "--mode=approve", f"--admin-token-file={token}")
    with served(tmp_path / "state", *options) as (place, _):

        def operator(method: str, path: str) -> Any:
            return place.call(method, path, token=ADMIN_TOKEN).body

        def states() -> list[str]:
            return sorted(each["state"] for each in operator("GET", "/v1/sessions")["sessions"])

        opened = [place.start(place.create(profile="shapes-48", prompt="red circle")) for _ in range(5)]
        until(lambda: states() == [*["active"] * 4, "waiting"], "four are served")
        until(lambda: operator("GET", "/health")["proposal"], "a plan waits for approval")
        plan = operator("GET", f"/v1/plans/{operator('GET', '/health')['proposal']}")
        version = plan["version"]
        assert (plan["state"], plan["mode"], plan["proposal"]) == ("proposed", "approve", version)
        assert list(plan["gpus"].values()).count("start") == 1
        waiting = next(e for e in operator("GET", "/v1/sessions")["sessions"] if e["state"] == "waiting")
        why = f"/v1/plans/{version}/explain?session={waiting['session_id']}"
        until(lambda: place.call("GET", why, token=ADMIN_TOKEN).status == 200, "it is explained")
        assert operator("GET", why)["status"] == "waiting"
        assert states().count("waiting") == 1, "nobody has said that another worker may be started"
        assert place.call("POST", f"/v1/plans/{version - 1}/approve", token=ADMIN_TOKEN).status == 409
        assert operator("POST", f"/v1/plans/{version}/approve")["carried_out"] == "all"
        assert operator("POST", f"/v1/plans/{version}/approve")["carried_out"] == "all"
        until(lambda: states() == ["active"] * 5, "all are served")
        for each in opened:
            chunks(each, 1)
        metrics = place.call("GET", "/metrics").body.decode()
        assert float(metrics.partition('epochal_gpu_seconds_total{type="cpu"} ')[2].split()[0]) > 0
        assert "# TYPE epochal_plan_solve_seconds summary" in metrics


def test_what_cannot_be_served_is_told_at_once(tmp_path: Path) -> None:
    for options, told in (
        (("--fleet", "absent.yaml"), "absent.yaml"),
        (("--http", "0.0.0.0:8000"), "--http"),
        (("--mode", "approve"), "--admin-token-file"),
        (("--state", f"{tmp_path}/{'x' * 120}"), "too long a path for sockets"),
    ):
        done = epochal("serve", "--state", tmp_path / "state", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert told in done.stderr
    assert processes(tmp_path) == []
