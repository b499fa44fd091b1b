"""A live system records what happens, across a controller that is killed, and its log is held against the simulator."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import yaml
from websockets.exceptions import ConnectionClosed

from runtime.gateway.framing import unframed
from tests.builders import FLEET
from tests.e2e.command import epochal
from tests.e2e.test_serve import is_ready, processes, served, until
from tests.runtime.gateway.live import Clients
from traces.store import read_trace

CHUNK_S = 0.4
EMULATED = FLEET | {
    "epoch_s": 2.0,
    "gpu_types": {"h100": {"memory_gib": 0.5, "weights_gib": 0.375, "price_per_hour": 3.6, "startup_s": 4.0}},
    "pools": [{"gpu_type": "h100", "nodes": 2, "gpus_per_node": 1, "gpus_min": 1, "host_memory_gib": 0.125}],
    "profiles": {"a": {"chunk_s": CHUNK_S, "state_gib": 0.02, "latency_ms": {"h100": [160.0, 220.0, 280.0, 340.0]}}},
    "target": {"chunk_latency_ms": 1000.0 * CHUNK_S, "first_chunk_ms": 3000.0},
}
DRIFT = re.compile(r'^epochal_latency_drift_ratio\{profile="a",type="h100"\} (\S+)$', re.MULTILINE)


class Viewer(threading.Thread):
    """Takes chunks as fast as they play."""

    def __init__(self, place: Clients, prompt: str) -> None:
        super().__init__(daemon=True)
        self.session = place.create(profile="a", prompt=prompt, tenant="acme")
        self.opened = place.start(self.session, acks=True)
        self.taken = 0
        self.start()

    def run(self) -> None:
        with suppress(ConnectionClosed):
            for data in self.opened:
                if isinstance(data, bytes):
                    self.taken = unframed(data).seq + 1
                    time.sleep(CHUNK_S)
                    self.say(type="session.ack", seq=self.taken)

    def say(self, **message: object) -> None:
        self.opened.send(json.dumps(message))

    def more(self, count: int) -> None:
        wanted = self.taken + count
        until(lambda: self.taken >= wanted, f"{count} more chunks")


def test_what_was_recorded_live_is_what_the_simulator_predicts(tmp_path: Path) -> None:
    state, fleet = tmp_path / "state", tmp_path / "fleet.yaml"
    fleet.write_text(yaml.safe_dump(EMULATED))
    log = state / "events.jsonl"
    with served(state, f"--fleet={fleet}", "--model=emulated") as (place, _):
        viewers = [Viewer(place, f"a secret {number}") for number in range(3)]
        for viewer in viewers:
            viewer.more(12)
        viewers[0].say(type="session.pause")
        until(lambda: b'"active":false' in log.read_bytes(), "the pause is recorded")
        (controller,) = processes(state, "controller")
        os.kill(controller, signal.SIGKILL)
        until(lambda: processes(state, "controller") not in ([], [controller]), "another controller has begun")
        until(lambda: is_ready(place), "it is ready again")
        viewers[0].say(type="session.update", prompt="another secret")
        viewers[0].say(type="session.resume")
        for viewer in viewers:
            viewer.more(12)
        metrics = str(place.call("GET", "/metrics").body, "utf-8")
        gone = viewers.pop().session
        place.call("DELETE", f"/v1/sessions/{gone['session_id']}", token=gone["token"])
        until(lambda: b'"session_ended"' in log.read_bytes(), "the end is recorded")

    drift = DRIFT.search(metrics)
    assert drift is not None
    assert 0.9 < float(drift[1]) < 1.5
    text = log.read_text()
    assert "secret" not in text
    assert "acme" not in text
    assert text.count('"kind":"began"') == 2
    assert text.count('"kind":"session_prompted"') == 1

    assert epochal("replay", log, "--trace-only", "-o", tmp_path / "demand.csv", cwd=tmp_path).returncode == 0
    demand = read_trace(tmp_path / "demand.csv")
    assert (demand.session_count, demand.period_count) == (3, 4)

    done = epochal("replay", log, "--format=json", cwd=tmp_path)
    assert done.returncode == 0
    assert "2 controllers, one after the other" in done.stderr
    told = json.loads(done.stdout)
    live, predicted = told["live"], told["predicted"]
    assert live["sessions"] == predicted["sessions"] == 3
    assert live["moves"]["place"] == 3
    assert [(row["profile"], row["gpu_type"]) for row in told["drift"]] == [("a", "h100")]
    assert 0.9 < told["drift"][0]["ratio"] < 1.5
    assert {row["content"]["a"]: row["predicted_ms"] for row in told["rounds"]}.items() <= {
        1: 160,
        2: 220,
        3: 280,
    }.items()
    assert all(0.9 < row["measured_ms"] / row["predicted_ms"] < 2.0 for row in told["rounds"] if row["rounds"] > 2)
    assert live["chunks"] >= 3 * 24
    assert 0.4 < live["chunk_latency_ms_mean"] / predicted["chunk_latency_ms_mean"] < 2.5  # on one GPU or on two
