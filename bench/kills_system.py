"""What `epochal serve` runs, with a controller that is killed and begun again.

Decides how its processes begin and end, and what is read of their files; must never know what a client does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import yaml

from runtime.client.calls import Place, call, place_of
from runtime.client.errors import ClientError
from runtime.journal.journal import Journal
from runtime.journal.truth import Truth
from runtime.provider.state_folder import WorkerRecord
from runtime.recording.events import Event, of_line
from runtime.serving.plan_of_processes import Serving, children_for
from runtime.serving.supervisor import Child

START_S = 60.0  # for the gateway to say where it is
LOOK_S = 0.05  # between two looks whether it has


class System:
    """Used from one thread. `folder` holds all that it writes."""

    def __init__(self, folder: Path, fleet: dict[str, Any], planner: dict[str, Any]) -> None:
        self._folder, self._state = folder, folder / "state"
        self._state.mkdir(mode=0o700)
        for name, data in (("fleet", fleet), ("planner", planner)):
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(data))
        self.events = self._state / "events.jsonl"
        serving = Serving(
            fleet=folder / "fleet.yaml",
            planner=folder / "planner.yaml",
            state=self._state,
            http="127.0.0.1:0",
            model="emulated",
            mode="execute",
            admin_token_file=None,
            provider="local",
            ray_address="",
            controller=None,
            gateway=None,
            keys=None,
            events=self.events,
            quiet=False,
        )
        self._gateway, self._controller = children_for(serving, os.environ)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> System:
        self._begin(self._gateway)
        self.place: Place = place_of(self._address(), None)
        self.begin_controller()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The controller first: it stops the workers that it knows. Whoever is left then is killed."""
        for child in (self._controller, self._gateway):
            process = self._processes.get(child.name)
            if process is not None:
                process.terminate()
                try:
                    process.wait(child.stop_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        for pid in self.workers().values():
            os.kill(pid, signal.SIGKILL)

    def begin_controller(self) -> None:
        self._begin(self._controller)

    def kill_controller(self) -> None:
        """SIGKILL, and gone when this returns."""
        process = self._processes["controller"]
        process.kill()
        process.wait()

    async def health(self) -> dict[str, Any]:
        """As the gateway tells it; empty where it does not answer."""
        try:
            found: dict[str, Any] = msgspec.json.decode(await call(self.place, "GET", "/health"))
        except ClientError:
            return {}
        return found

    def journal_copied(self) -> Path:
        """To be read with `truth_of`; to be asked while no controller writes."""
        copy = Path(tempfile.mkdtemp(dir=self._folder))
        for path in self._state.glob("journal.sqlite*"):
            shutil.copy(path, copy)
        return copy

    def workers(self) -> dict[str, int]:
        """The pids of processes that were started and live, by GPU."""
        found = {}
        for path in (self._state / "workers").glob("*.worker"):
            try:
                record = msgspec.json.decode(path.read_bytes(), type=WorkerRecord)
            except FileNotFoundError:  # it has ended since
                continue
            if record.pid is not None and _lives(record.pid):
                found[record.gpu_id] = record.pid
        return found

    def told(self) -> str:
        """The last words of gateway and controllers."""
        return "".join(path.read_text(errors="replace")[-2000:] for path in sorted(self._folder.glob("*.log")))

    def _begin(self, child: Child) -> None:
        with (self._folder / f"{child.name}.log").open("ab") as log:
            self._processes[child.name] = subprocess.Popen(
                child.command, stdin=subprocess.DEVNULL, stderr=log, env=child.environment, process_group=0
            )

    def _address(self) -> str:
        end_s = time.monotonic() + START_S
        path = self._folder / "gateway.log"
        while time.monotonic() < end_s:
            _, found, rest = path.read_text().partition("http://")
            if found and "," in rest:
                return found + rest.partition(",")[0]
            time.sleep(LOOK_S)
        raise TimeoutError(f"the gateway does not say where it is: {path.read_text()}")


def truth_of(copy: Path) -> Truth:
    """What a copied journal holds, which is removed."""
    journal = Journal.open(copy / "journal.sqlite")
    journal.close()
    shutil.rmtree(copy)
    return journal.truth


class Tail:
    """The events of a log, as they come."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Sequence[Event]:
        return tuple(self._read())

    def _read(self) -> Iterator[Event]:
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):  # the rest is on its way, or never comes
                    return
                self._offset += len(line)
                yield of_line(line)


def _lives(pid: int) -> bool:
    """Not a zombie either: whoever has started it may be gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
