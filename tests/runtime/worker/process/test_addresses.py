"""Nothing leaves this machine without keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from zmq.auth import create_certificates

from runtime.worker.process.addresses import check_address, read_keys, store_address
from traces.errors import BadInputError


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:7100", "tcp://127.9.9.9:1", "tcp://[::1]:7100", "tcp://localhost:7100", "ipc:///tmp/a"]
)
def test_this_machine_needs_no_keys(address: str) -> None:
    check_address("--controller", address, has_keys=False)


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:7100", "tcp://controller:7100", "tcp://0.0.0.0:1", "tcp://[fe80::1]:1"]
)
def test_other_machines_need_keys(address: str) -> None:
    with pytest.raises(BadInputError, match=r"leaves this machine.*--keys and --server-key"):
        check_address("--controller", address, has_keys=False)
    check_address("--controller", address, has_keys=True)


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1:7100", "tcp://127.0.0.1", "tcp://:7100", "tcp://h:0", "udp://h:1", "ipc://"]
)
def test_what_is_no_address_is_told(address: str) -> None:
    with pytest.raises(BadInputError, match="must be tcp://HOST:PORT or ipc://PATH"):
        check_address("--gateway", address, has_keys=True)


def test_the_store_is_on_this_machine() -> None:
    assert store_address("--store", "127.0.0.1:7102") == ("127.0.0.1", 7102)
    with pytest.raises(BadInputError, match="the store knows no keys"):
        store_address("--store", "10.0.0.1:7102")
    with pytest.raises(BadInputError, match="must be HOST:PORT"):
        store_address("--store", "7102")


def test_keys_are_read_from_certificates(tmp_path: Path) -> None:
    public, secret = map(Path, create_certificates(tmp_path, "worker"))
    server, _ = map(Path, create_certificates(tmp_path, "server"))
    keys = read_keys(secret, server)
    assert {len(key) for key in (keys.public, keys.secret, keys.server)} == {40}
    assert len({keys.public, keys.secret, keys.server}) == 3
    with pytest.raises(BadInputError, match="has no secret key"):
        read_keys(public, server)
    with pytest.raises(BadInputError, match="must be a readable CURVE certificate"):
        read_keys(tmp_path / "absent", server)
