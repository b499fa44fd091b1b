"""`epochal keys`, the real command: what it makes, what it refuses, and that what it makes opens the door."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from runtime.provider.command import WorkerCommand
from runtime.provider.provider import Exited
from runtime.security.certificates import certificates, key_pair
from runtime.security.doorkeeper import Doorkeeper
from runtime.security.listening import Guard, endpoint, listen
from runtime.worker.process.messages import Hello, from_worker
from scheduler.cluster import GpuId
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal
from tests.runtime.provider.small_workers import a_provider, until
from tests.runtime.provider.test_real_worker import EMULATED, PATIENCE_S, SMALL

WORKER = GpuId("worker-0")


def test_it_makes_a_folder_and_says_what_goes_where(tmp_path: Path) -> None:
    done = epochal("keys", "keys", "--workers", "3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    there = certificates(tmp_path / "keys")
    assert [one.name for one in there] == ["controller", "gateway", "worker-0", "worker-1", "worker-2"]
    for one in there:
        assert f"{one.name}  " in done.stdout
        assert one.fingerprint in done.stdout
    told = " ".join(done.stdout.split())
    assert "To the controller keys/controllers/controller.key_secret, keys/workers/*.key, keys/gateways/*.key" in told
    assert "To each worker keys/workers/NAME.key_secret (its own alone), keys/controllers/controller.key" in told


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    printed = ""
    for arguments in (("--workers", "2"), ("--add", "late"), ("--list",), ("--list", "--format", "json")):
        printed += epochal("keys", "keys", *arguments, cwd=tmp_path).stdout
    secrets = [key_pair(one.secret_file).secret for one in certificates(tmp_path / "keys") if one.secret_file]
    assert len(secrets) == 5
    assert [secret for secret in secrets if secret.decode() in printed] == []


def test_one_is_added_listed_and_removed(tmp_path: Path) -> None:
    assert epochal("keys", "keys", "--quiet", cwd=tmp_path).returncode == 0
    added = epochal("keys", "keys", "--add", "late", cwd=tmp_path)
    assert "To the controller and gateways  keys/workers/late.key" in added.stdout
    assert epochal("keys", "keys", "--add", "second", "--role", "gateway", cwd=tmp_path).returncode == 0
    listed = json.loads(epochal("keys", "keys", "--list", "--format", "json", cwd=tmp_path).stdout)
    assert [(one["role"], one["name"]) for one in listed["certificates"]] == [
        ("controller", "controller"),
        ("gateway", "gateway"),
        ("gateway", "second"),
        ("worker", "late"),
        ("worker", "worker-0"),
    ]
    assert (tmp_path / listed["certificates"][3]["secret_file"]).stat().st_mode & 0o777 == 0o600
    removed = epochal("keys", "keys", "--remove", "late", cwd=tmp_path)
    assert "delete workers/late.key wherever it was copied to" in removed.stdout
    assert [one.name for one in certificates(tmp_path / "keys") if one.role == "worker"] == ["worker-0"]


def test_workers_are_called_as_the_gpus_of_a_fleet(tmp_path: Path) -> None:
    assert epochal("keys", "keys", "--fleet", ROOT / "examples/fleets/laptop.yaml", cwd=tmp_path).returncode == 0
    workers = [one.name for one in certificates(tmp_path / "keys") if one.role == "worker"]
    assert workers == [f"cpu-0-{node}-0" for node in range(4)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "keys: is there already, and nothing is overwritten: --list shows it, --add NAME adds to it\n"),
        (("--add", "worker-0"), "--add: 'worker-0' is there already: --remove it first, and its old key is void\n"),
        (("--add", "../x"), "--add: '../x' must be 1 to 64 letters, digits, - _ and ., and not begin with a sign\n"),
        (("--remove", "x"), "--remove: 'x' is not there: epochal keys keys --list\n"),
        (("--add", "x", "--list"), "--workers, --fleet, --add, --remove and --list: cannot be given together\n"),
    ],
)
def test_what_it_refuses(tmp_path: Path, arguments: tuple[str, ...], expected: str) -> None:
    epochal("keys", "keys", cwd=tmp_path)
    before = certificates(tmp_path / "keys")
    done = epochal("keys", "keys", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert certificates(tmp_path / "keys") == before


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    done = epochal("keys", "other", "--list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "other: must be a folder of certificates: epochal keys FOLDER makes one\n"
    assert epochal("keys", "other", cwd=tmp_path).returncode == 2
    assert list((tmp_path / "other").iterdir()) == []


def test_a_real_worker_gets_through_with_its_key_and_not_without(tmp_path: Path) -> None:
    """One that a local provider starts; no secret is in its arguments or its environment."""
    folder = tmp_path / "keys"
    assert epochal("keys", folder, "--workers", "1", cwd=tmp_path).returncode == 0
    secret = folder / "workers/worker-0.key_secret"

    async def case() -> None:
        context = zmq.asyncio.Context()
        door = Doorkeeper(context, {"workers": folder / "workers"}, look_s=0.02)
        try:
            guard = Guard(keys=key_pair(folder / "controllers/controller.key_secret"), door=door, domain="workers")
            controller, gateway = (
                listen(context, kind, "--listen", "tcp://127.0.0.1:0", guard=guard) for kind in (zmq.ROUTER, zmq.PULL)
            )
            ends = ("--controller", endpoint(controller), "--gateway", endpoint(gateway))
            keys = ("--keys", str(secret), "--server-key", str(folder / "controllers/controller.key"))
            options = (*ends, *keys, *SMALL, *EMULATED)
            command = WorkerCommand(options=options, program=EPOCHAL, inherited=environment())
            async with a_provider(tmp_path / "state", command) as (provider, ears):
                provider.start(WORKER)
                frames = await asyncio.wait_for(controller.recv_multipart(copy=False), PATIENCE_S)
                hello = from_worker(frames[-1].bytes)
                assert isinstance(hello, Hello)
                assert door.name_of("workers", frames[-1]) == hello.worker == WORKER
                seen = [
                    Path(f"/proc/{provider.running[WORKER].pid}/{name}").read_bytes() for name in ("cmdline", "environ")
                ]
                assert [text for text in seen if key_pair(secret).secret in text] == []
                await until(lambda: door.let_in >= 2, "the connection to the gateway")
                (folder / "workers/worker-0.key").rename(tmp_path / "taken-away")
                provider.note_incarnation(WORKER, hello.incarnation)
                provider.kill(WORKER)
                await ears.hear(Exited)
                await until(lambda: not door.name_of("workers", frames[-1]), "the doorkeeper to notice")
                provider.start(WORKER)
                await until(lambda: door.refused > 0, "the one that is refused")
                assert door.let_in == 2
        finally:
            door.close()
            context.destroy(linger=0)

    asyncio.run(case())


def test_without_the_library_the_fix_is_told(tmp_path: Path) -> None:
    code = "import sys; sys.modules['zmq'] = None; from runtime.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "keys", "keys"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "zmq: is not installed; pip install 'epochal[runtime]'\n"
    assert list(tmp_path.iterdir()) == []
