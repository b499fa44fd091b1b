"""`epochal gateway` refuses what cannot be or is not safe, and with keys speaks with nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from runtime.gateway import messages as m
from runtime.security.certificates import KeyPair, key_pair, make, public_key
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal
from tests.ports import free_port

PATIENCE_MS = 60_000
HERE = ("--http", "127.0.0.1:0", "--workers", "tcp://127.0.0.1:7101", "--controller", "tcp://127.0.0.1:7102")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--http", "0.0.0.0:8000"), "--http: 0.0.0.0:8000 can be reached from other machines"),
        (("--http", "8000"), "--http: '8000' must be HOST:PORT"),
        (("--workers", "tcp://0.0.0.0:7101"), "--workers: tcp://0.0.0.0:7101 is open to other machines"),
        (("--controller", "tcp://10.0.0.1:7102"), "--controller: tcp://10.0.0.1:7102 leaves this machine"),
        (("--keys", "absent"), "--keys, --controller-key, --listening-keys and --worker-keys: must be given together"),
        (("--certificate", "absent"), "--certificate and --certificate-key: must be given together"),
        (("--origin", "app.example"), "--origin: 'app.example' must be https://HOST"),
        (("--admin-token-file", "absent"), "absent: must be a readable text file"),
        (("--name", "x" * 65), "--name: has 65 characters; it must have at most 64"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = epochal("gateway", *HERE, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(expected)


def test_an_address_that_is_taken_is_told(tmp_path: Path) -> None:
    make(tmp_path / "keys", workers=1)
    keys = (
        *("--keys", "keys/gateways/gateway.key_secret", "--controller-key", "keys/controllers/controller.key"),
        *("--listening-keys", "keys/controllers/controller.key_secret", "--worker-keys", "keys/workers"),
    )
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option, address in (("--http", f"127.0.0.1:{port}"), ("--workers", f"tcp://127.0.0.1:{port}")):
            done = epochal("gateway", *HERE, option, address, *keys, cwd=tmp_path)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith(f"{option}: {address} cannot be listened at")


@pytest.mark.parametrize("part", ["fastapi", "uvicorn", "prometheus_client", "zmq"])
def test_without_a_library_the_fix_is_told(part: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['{part}'] = None; from runtime.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "gateway", *HERE],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{part}: is not installed; pip install 'epochal[runtime]'\n"


def test_it_needs_no_torch_and_others_not_its_libraries() -> None:
    code = "import sys, runtime.gateway.process; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False).returncode == 0
    code = "import sys, runtime.cli.main; sys.exit('fastapi' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False).returncode == 0


def test_with_keys_only_named_workers_and_the_right_controller_are_spoken_to(tmp_path: Path) -> None:
    make(tmp_path / "keys", workers=2)
    secret = {role: tmp_path / "keys" / f"{role}s" / f"{role}.key_secret" for role in ("controller", "gateway")}
    allowed = tmp_path / "keys" / "workers"
    server = public_key(tmp_path / "keys" / "controllers" / "controller.key")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    controller = context.socket(zmq.ROUTER)
    controller.set(zmq.CURVE_SERVER, 1)
    controller.set(zmq.CURVE_PUBLICKEY, server)
    controller.set(zmq.CURVE_SECRETKEY, key_pair(secret["controller"]).secret)
    port = controller.bind_to_random_port("tcp://127.0.0.1")
    workers = f"tcp://127.0.0.1:{free_port()}"
    options = ("--http", "127.0.0.1:0", "--workers", workers, "--controller", f"tcp://127.0.0.1:{port}")
    keys = {
        "--keys": secret["gateway"],
        "--controller-key": tmp_path / "keys" / "controllers" / "controller.key",
        "--listening-keys": secret["controller"],
        "--worker-keys": allowed,
    }
    command = [*EPOCHAL, "gateway", *options, "--quiet", *(str(word) for pair in keys.items() for word in pair)]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert controller.poll(PATIENCE_MS)
        assert isinstance(m.from_gateway(controller.recv_multipart()[1]), m.Here)
        assert _is_let_in(context, workers, server, key_pair(allowed / "worker-1.key_secret"))
        assert not _is_let_in(context, workers, server, key_pair(secret["gateway"]))
    finally:
        process.kill()
        process.communicate()
        context.destroy(linger=0)


def _is_let_in(context: zmq.Context[zmq.Socket[bytes]], address: str, server: bytes, own: KeyPair) -> bool:
    """Whether a worker with these keys gets a connection."""
    with context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.CURVE_SERVERKEY, server)
        dealer.set(zmq.CURVE_PUBLICKEY, own.public)
        dealer.set(zmq.CURVE_SECRETKEY, own.secret)
        with dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH) as monitor:
            dealer.connect(address)
            assert monitor.poll(PATIENCE_MS), "there was no handshake"
            event: int = recv_monitor_message(monitor)["event"]
            dealer.disable_monitor()
    return event == zmq.EVENT_HANDSHAKE_SUCCEEDED
