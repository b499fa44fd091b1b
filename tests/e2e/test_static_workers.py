"""Workers that are started by hand and join by address and key, as on another machine: other loopback addresses."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.serving.plan_of_processes import chosen_fleet
from scheduler.cluster_state import all_off
from scheduler.fleet_file import load_fleet
from tests.e2e.command import EPOCHAL, environment, epochal
from tests.e2e.test_serve import Watched, is_ready, until
from tests.ports import free_port
from tests.runtime.gateway.live import Clients

PATIENCE_S = 120.0
HOST = "127.0.0.2"


def free_address() -> str:
    return f"tcp://{HOST}:{free_port(HOST)}"


@contextmanager
def running(command: list[str], log: Path, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Asked to end, and killed if it does not."""
    with log.open("ab") as out, subprocess.Popen(command, cwd=cwd, env=environment(), stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def told(log: Path, word: str) -> str:
    """The last line with it, once there is one."""
    found: list[str] = []

    def there() -> bool:
        found[:] = [line for line in log.read_text().splitlines() if word in line]
        return bool(found)

    until(there, f"{word!r} in {log}")
    return found[-1]


def gpus(place: Clients) -> dict[str, int]:
    """By state, as metrics have them."""
    text = place.call("GET", "/metrics").body.decode()
    return {state: int(float(count)) for state, count in re.findall(r'epochal_gpus{state="(\w+)",.*} (\S+)', text)}


def test_a_worker_of_another_machine_serves_with_its_own_key_alone(tmp_path: Path) -> None:
    """What the controller says is to be run is what is run, in a folder that has but two files."""
    fleet, keys, log = chosen_fleet(None, 2, tmp_path), tmp_path / "keys", tmp_path / "serve.log"
    here, other = all_off(load_fleet(fleet)).gpus
    assert epochal("keys", keys, "--fleet", fleet, cwd=tmp_path).returncode == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (keys / "workers" / f"{here}.key_secret", keys / "controllers" / "controller.key"):
        shutil.copy(path, elsewhere)
    place = Clients(host="127.0.0.1", port=free_port())
    serve = [
        *(*EPOCHAL, "serve", f"--fleet={fleet}", f"--state={tmp_path / 'state'}", f"--http=127.0.0.1:{place.port}"),
        *(f"--controller-address={free_address()}", f"--gateway-address={free_address()}"),
        *("--provider=static", f"--keys={keys}"),
    ]
    with running(serve, log, tmp_path):
        until(lambda: is_ready(place), "it is ready")
        words = shlex.split(told(log, f"{here}: is to have a worker").partition("already: ")[2])
        assert words[:3] == ["epochal", "worker", f"--name={here}"]
        assert f"--keys={here}.key_secret" in words
        with place.open, running([*EPOCHAL, *words[1:]], tmp_path / "worker.log", elsewhere) as worker:
            until(lambda: gpus(place) == {"ready": 1, "lost": 1}, "it is there")
            watched = Watched(place, seed=3)
            watched.more(4)
            watched.opened.send('{"type": "session.pause"}')
            wrong = [*EPOCHAL, *words[1:2], *(word for word in words[2:] if "--name" not in word), "--name=gpu-7"]
            with running(wrong, tmp_path / "wrong.log", elsewhere):  # its key is another worker's
                told(log, "'gpu-7'")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(PATIENCE_S) == 0
            until(lambda: log.read_text().count(f"{here}: is to have a worker") == 2, "it is missed")
            watched.check()
            assert gpus(place) == {"lost": 2}
        assert f"{other}: is to have" not in log.read_text()  # nobody has waited for it in vain
