"""`epochal gateway` refuses what cannot be or is not safe, and with keys speaks with nobody else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from zmq.auth import create_certificates, load_certificate
from zmq.utils.monitor import recv_monitor_message

from runtime.gateway import messages as m
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal

PATIENCE_MS = 60_000
HERE = ("--http", "127.0.0.1:0", "--workers", "tcp://127.0.0.1:7101", "--controller", "tcp://127.0.0.1:7102")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--http", "0.0.0.0:8000"), "--http: 0.0.0.0:8000 can be reached from other machines"),
        (("--http", "8000"), "--http: '8000' must be HOST:PORT"),
        (("--workers", "tcp://0.0.0.0:7101"), "--workers: tcp://0.0.0.0:7101 leaves this machine"),
        (("--controller", "tcp://10.0.0.1:7102"), "--controller: tcp://10.0.0.1:7102 leaves this machine"),
        (("--keys", "absent"), "--keys, --controller-key and --worker-keys: must be given together"),
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
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option, address in (("--http", f"127.0.0.1:{port}"), ("--workers", f"tcp://127.0.0.1:{port}")):
            done = epochal("gateway", *HERE, option, address, cwd=tmp_path)
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
    names = ("gateway", "controller", "worker", "stranger")
    public, secret = zip(*(map(Path, create_certificates(tmp_path, name)) for name in names), strict=True)
    allowed = tmp_path / "workers"
    allowed.mkdir()
    (allowed / "worker.key").write_text(public[2].read_text())
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    controller = context.socket(zmq.ROUTER)
    controller.set(zmq.CURVE_SERVER, 1)
    own, private = load_certificate(secret[1])
    assert private is not None
    controller.set(zmq.CURVE_PUBLICKEY, own)
    controller.set(zmq.CURVE_SECRETKEY, private)
    port = controller.bind_to_random_port("tcp://127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        workers = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    options = ("--http", "127.0.0.1:0", "--workers", workers, "--controller", f"tcp://127.0.0.1:{port}")
    keys = ("--keys", secret[0], "--controller-key", public[1], "--worker-keys", allowed)
    command = [*EPOCHAL, "gateway", *options, *map(str, keys), "--quiet"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert controller.poll(PATIENCE_MS)
        assert isinstance(m.from_gateway(controller.recv_multipart()[1]), m.Here)
        assert _is_let_in(context, workers, load_certificate(public[0])[0], load_certificate(secret[2]))
        assert not _is_let_in(context, workers, load_certificate(public[0])[0], load_certificate(secret[3]))
    finally:
        process.kill()
        process.communicate()
        context.destroy(linger=0)


def _is_let_in(
    context: zmq.Context[zmq.Socket[bytes]], address: str, server: bytes, own: tuple[bytes, bytes | None]
) -> bool:
    """Whether a worker with these keys gets a connection."""
    with context.socket(zmq.DEALER) as dealer:
        dealer.set(zmq.CURVE_SERVERKEY, server)
        dealer.set(zmq.CURVE_PUBLICKEY, own[0])
        assert own[1] is not None
        dealer.set(zmq.CURVE_SECRETKEY, own[1])
        with dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH) as monitor:
            dealer.connect(address)
            assert monitor.poll(PATIENCE_MS), "there was no handshake"
            event: int = recv_monitor_message(monitor)["event"]
            dealer.disable_monitor()
    return event == zmq.EVENT_HANDSHAKE_SUCCEEDED
