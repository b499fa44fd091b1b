"""`epochal store` lets workers of this machine meet, and nobody else."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from torch._C._distributed_c10d import TCPStore

from tests.e2e.command import EPOCHAL, environment, epochal
from tests.ports import free_port

PATIENCE_S = 60.0


@contextmanager
def a_store(port: int) -> Iterator[subprocess.Popen[str]]:
    command = [*EPOCHAL, "store", f"--listen=127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"store: workers meet at 127.0.0.1:{port}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def a_client(port: int) -> TCPStore:
    return TCPStore("127.0.0.1", port, None, is_master=False, timeout=timedelta(seconds=PATIENCE_S))


def test_workers_of_this_machine_meet_also_at_one_that_was_begun_anew() -> None:
    port = free_port()
    for _ in range(2):
        with a_store(port) as process:
            a_client(port).set("pair", "here")
            assert a_client(port).get("pair") == b"here"
            with pytest.raises(ConnectionRefusedError):  # who listens everywhere would be found here, too
                socket.create_connection(("127.0.0.2", port))
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0


def test_wrong_addresses_are_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = epochal("store", f"--listen=127.0.0.1:{port}", cwd=tmp_path)
    assert (done.returncode, done.stderr.partition(" must be")[0]) == (2, f"--listen: 127.0.0.1:{port}")
    for address, wrong in (("0.0.0.0:7103", "leaves this machine"), ("7103", "must be HOST:PORT")):
        done = epochal("store", f"--listen={address}", cwd=tmp_path)
        assert done.returncode == 2
        assert wrong in done.stderr


@pytest.mark.parametrize("address", ["10.0.0.1:7103", "here"])
def test_serve_refuses_what_the_store_would(address: str, tmp_path: Path) -> None:
    done = epochal("serve", f"--store={address}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("--store: ")
    assert list(tmp_path.iterdir()) == []
