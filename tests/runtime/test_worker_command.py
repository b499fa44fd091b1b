"""`epochal worker`, the real command: it says hello, computes, refuses what cannot be, and ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
import zmq
from zmq.auth import create_certificates, load_certificate

from runtime.chunk_models.transformer.weights import save
from runtime.worker.messages import Command, Moved, Open, Text
from runtime.worker.process.messages import (
    Credit,
    Delivered,
    FromController,
    FromGateway,
    Goodbye,
    Hello,
    Renew,
    Said,
    encoded,
    from_worker,
    to_gateway,
)
from tests.e2e.command import EPOCHAL, ROOT, environment, epochal
from tests.runtime.chunk_models.hosts import TINY, tiny_network

PATIENCE_S = 200.0
ANYWHERE = "0.0.0.0"  # noqa: S104 - it is refused
HERE = ("--controller", "tcp://127.0.0.1:7100", "--gateway", "tcp://127.0.0.1:7101", "--device", "cpu")
SMALL = ("--device-memory-mib", "300", "--host-memory-mib", "8")
Kind = TypeVar("Kind")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save(path, tiny_network())
    return path


class Ends:
    """The two sockets that a worker connects to."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], secret: Path | None) -> None:
        self.controller, self.gateway = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
        ports = []
        for made in (self.controller, self.gateway):
            if secret is not None:
                public, private = load_certificate(secret)
                assert private is not None
                made.set(zmq.CURVE_SERVER, 1)
                made.set(zmq.CURVE_PUBLICKEY, public)
                made.set(zmq.CURVE_SECRETKEY, private)
            made.set(zmq.ROUTER_MANDATORY, 1)
            ports.append(made.bind_to_random_port("tcp://127.0.0.1"))
        self.options = ("--controller", f"tcp://127.0.0.1:{ports[0]}", "--gateway", f"tcp://127.0.0.1:{ports[1]}")
        self._identity = b""

    def hear(self, kind: type[Kind]) -> Kind:
        """The next message of that kind."""
        end_s = time.monotonic() + PATIENCE_S
        while self.controller.poll(max(0, int((end_s - time.monotonic()) * 1000))):
            self._identity, frame = self.controller.recv_multipart()
            message = from_worker(frame)
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__} has come")

    def tell(self, message: FromController) -> None:
        self.controller.send_multipart([self._identity, encoded(message)])

    def tell_from_gateway(self, message: FromGateway) -> None:
        """As soon as the worker is there, which may have come to the controller first."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            with suppress(zmq.ZMQError):
                self.gateway.send_multipart([self._identity, encoded(message)])
                return
            time.sleep(0.05)
        raise AssertionError("the worker has not come to the gateway")

    def chunk(self) -> Delivered:
        assert self.gateway.poll(int(PATIENCE_S * 1000))
        _, frame = self.gateway.recv_multipart()
        message = to_gateway(frame)
        assert isinstance(message, Delivered)
        return message


@contextmanager
def a_worker(*arguments: str | Path, secret: Path | None = None) -> Iterator[tuple[Ends, subprocess.Popen[str]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ends = Ends(context, secret)
    command = [*EPOCHAL, "worker", *ends.options, "--device", "cpu", *map(str, arguments)]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield ends, process
    finally:
        process.kill()
        process.communicate()
        context.destroy(linger=0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_computes_and_ends_cleanly_when_it_is_told_to(weights: Path, number: signal.Signals) -> None:
    with a_worker("--weights", weights, "--name", "w", *SMALL) as found:
        ends, process = found
        hello = ends.hear(Hello)
        assert (hello.worker, [profile.name for profile in hello.profiles], hello.ways) == ("w", ["a", "b"], ("tcp",))
        told = {"controller_epoch": 1, "incarnation": hello.incarnation}
        ends.tell(Renew(**told, sent_s=hello.sent_s))
        text = Text(profile="a", seed=1, prompt="red circle", encoding="mjpeg")
        size = hello.profiles[0].state_bytes
        body = Open(session_id="s", state_bytes=size, ownership=1, text=text)
        ends.tell(Command(**told, version=1, body=body))
        assert ends.hear(Said).report == Moved(session_id="s", state="active", ownership=1)
        ends.tell_from_gateway(Credit(**told, session_id="s", lineage=0, up_to=3))
        chunks = [ends.chunk() for _ in range(3)]
        assert [(chunk.number, chunk.encoding) for chunk in chunks] == [(at, "mjpeg") for at in range(3)]
        assert chunks[0].body.count(b"Content-Type: image/jpeg") == TINY.frames
        process.send_signal(number)
        assert ends.hear(Goodbye).reason == "stopped"
        out, error = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (0, "")
        assert error.splitlines() == [
            "worker w: 43.8 MiB for states on cpu, 7.2 MiB in host memory, 256.2 MiB for the ChunkModel",
            f"{number.name}: finishing the chunks in progress",
        ]


def test_with_keys_nobody_else_is_spoken_to(weights: Path, tmp_path: Path) -> None:
    """A worker with the wrong server's key does not get through; the one with the right key does."""
    server_public, server_secret = map(Path, create_certificates(tmp_path, "server"))
    _, own = map(Path, create_certificates(tmp_path, "worker"))
    options = ("--weights", weights, *SMALL, "--keys", own)
    own.chmod(0o640)
    done = epochal("worker", *HERE, "--keys", own, "--server-key", server_public, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{own}: is a secret that others may read (mode 0640): chmod 600")
    own.chmod(0o600)
    with a_worker(*options, "--quiet", "--server-key", server_public, secret=server_secret) as (ends, process):
        hello = ends.hear(Hello)
        assert hello.profiles
        told = {"controller_epoch": 1, "incarnation": hello.incarnation}
        ends.tell_from_gateway(Credit(**told, session_id="s", lineage=0, up_to=1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    own_public = tmp_path / "worker.key"
    with a_worker(*options, "--server-key", own_public, secret=server_secret) as (ends, process):
        assert process.stderr is not None
        assert "MiB for states" in process.stderr.readline()
        assert not ends.controller.poll(4000)
        assert process.poll() is None  # it goes on trying
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("part", ["torch", "zmq", "av"])
def test_without_a_library_the_fix_is_told(part: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules['{part}'] = None; from runtime.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "worker", *HERE],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{part}: is not installed; pip install 'epochal[runtime]'\n"


def test_other_commands_do_not_load_zmq() -> None:
    code = "import sys, runtime.cli.main; sys.exit(any(name in sys.modules for name in ('torch', 'zmq', 'av')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--controller", "tcp://10.0.0.1:7100"), "--controller: tcp://10.0.0.1:7100 leaves this machine"),
        (("--gateway", "tcp://gateway:7100"), "--gateway: tcp://gateway:7100 leaves this machine"),
        (("--gateway", "7100"), "--gateway: '7100' must be tcp://HOST:PORT or ipc://PATH"),
        (("--states-host", "203.0.113.9"), "--states-host: '203.0.113.9' must be an address of this machine"),
        (("--states-host", ANYWHERE), f"--states-host: {ANYWHERE} can be reached from other machines: give --keys"),
        (("--store", "10.0.0.1:7102"), "--store: 10.0.0.1:7102 leaves this machine, and the store knows no keys"),
        (("--keys", "absent"), "--keys and --server-key: must be given together"),
        (("--device", "cuda:99"), '--device: "cuda:99" is not there'),
        (("--name", "x" * 65), "--name: has 65 characters; it must have at most 64"),
        (("--weights", "absent.safetensors"), "absent.safetensors: must be a readable safetensors file"),
        (("--model", "emulated"), "--fleet: must be given for --model emulated"),
    ],
)
def test_wrong_options_are_told(arguments: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    done = epochal("worker", *HERE, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--device-memory-mib", "200"), "--device-memory-mib: 200.0 MiB are too few: the ChunkModel's weights and"),
        (("--host-memory-mib", "1", "--sessions-max", "500"), "--host-memory-mib: 1.0 MiB are too few: chunks on"),
        (("--device-memory-mib", "99999999"), "--device-memory-mib and --host-memory-mib: 100001023.0 MiB together"),
    ],
)
def test_memory_that_is_not_there_is_refused_in_numbers(
    arguments: tuple[str, ...], expected: str, weights: Path, tmp_path: Path
) -> None:
    done = epochal("worker", *HERE, "--weights", weights, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(expected)
