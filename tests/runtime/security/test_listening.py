"""What may be bound, with keys and without, and what is set on what was."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from runtime.security.certificates import key_pair, make
from runtime.security.doorkeeper import Doorkeeper
from runtime.security.listening import Guard, ListeningBounds, check_listening, endpoint, listen
from tests.runtime.security.peers import PATIENCE_S, Socket, a_client
from traces.errors import BadInputError


class Kept(zmq.Context[Socket]):
    """Its sockets stay until it goes: one that a test has forgotten is not closed under it."""

    def socket(self, *arguments: Any, **settings: Any) -> Any:
        made = super().socket(*arguments, **settings)
        _KEPT.append(made)
        return made


_KEPT: list[Any] = []


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    made = Kept()
    yield made
    made.destroy(linger=0)
    _KEPT.clear()


@pytest.mark.parametrize(
    "address", ["tcp://0.0.0.0:0", "tcp://*:7100", "tcp://10.0.0.1:7100", "tcp://eth0:7100", "tcp://[::]:7100"]
)
def test_what_other_machines_can_reach_is_not_bound_without_keys(context: zmq.Context[Socket], address: str) -> None:
    with pytest.raises(BadInputError, match=r"--listen: .* is open to other machines.*give keys \(epochal keys"):
        listen(context, zmq.ROUTER, "--listen", address, guard=None)


def test_a_name_without_a_file_is_not_bound_without_keys(context: zmq.Context[Socket]) -> None:
    with pytest.raises(BadInputError, match="has no file whose mode keeps others out"):
        listen(context, zmq.ROUTER, "--listen", "ipc://@epochal", guard=None)


@pytest.mark.parametrize(
    "address", ["7100", "tcp://", "tcp://127.0.0.1", "udp://127.0.0.1:7100", "tcp://127.0.0.1:99999"]
)
def test_what_is_no_address_is_told_with_keys_and_without(address: str) -> None:
    for has_keys in (True, False):
        with pytest.raises(BadInputError, match=r"must be tcp://HOST:PORT or ipc://PATH"):
            check_listening("--listen", address, has_keys=has_keys)


def test_with_keys_every_address_may_be_bound(context: zmq.Context[Socket], tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    door = Doorkeeper(context, {"workers": tmp_path / "keys/workers"})
    try:
        guard = Guard(keys=key_pair(tmp_path / "keys/controllers/controller.key_secret"), door=door, domain="workers")
        made = listen(context, zmq.ROUTER, "--listen", "tcp://0.0.0.0:0", guard=guard)
        assert endpoint(made).startswith("tcp://0.0.0.0:")
        assert made.get(zmq.CURVE_SERVER) == 1
        assert made.get(zmq.MECHANISM) == zmq.CURVE
        assert made.get(zmq.ZAP_DOMAIN).rstrip(b"\0") == b"workers"
    finally:
        door.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://[::1]:0"])
def test_on_this_machine_no_keys_are_needed(context: zmq.Context[Socket], address: str) -> None:
    made = listen(context, zmq.PULL, "--listen", address, guard=None)
    client = context.socket(zmq.PUSH)
    client.set(zmq.IPV6, 1)
    client.connect(endpoint(made))
    client.send(b"hello")
    assert made.poll(int(PATIENCE_S * 1000))


def test_a_file_to_connect_to_is_for_its_owner(context: zmq.Context[Socket], tmp_path: Path) -> None:
    made = listen(context, zmq.ROUTER, "--listen", f"ipc://{tmp_path}/socket", guard=None)
    assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600
    a_client(context, endpoint(made), None).close()


def test_every_bound_is_set(context: zmq.Context[Socket]) -> None:
    bounds = ListeningBounds(received_max=11, sent_max=12, frame_bytes_max=4096, waiting_max=13, handshake_ms=14)
    made = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=None, bounds=bounds)
    found = [made.get(one) for one in (zmq.RCVHWM, zmq.SNDHWM, zmq.MAXMSGSIZE, zmq.BACKLOG, zmq.HANDSHAKE_IVL)]
    assert found == [11, 12, 4096, 13, 14]
    assert [made.get(one) for one in (zmq.HEARTBEAT_IVL, zmq.HEARTBEAT_TIMEOUT, zmq.LINGER)] == [1000, 5000, 2000]
    with pytest.raises(zmq.ZMQError, match="Host unreachable"):  # ROUTER_MANDATORY
        made.send_multipart([b"nobody", b"hello"])


def test_a_frame_that_is_too_long_is_not_taken(context: zmq.Context[Socket]) -> None:
    bounds = ListeningBounds(frame_bytes_max=1000)
    made = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=None, bounds=bounds)
    client = a_client(context, endpoint(made), None)
    monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    client.send(b"x" * 1001)
    assert monitor.poll(int(PATIENCE_S * 1000))
    other = a_client(context, endpoint(made), None)
    other.send(b"x" * 1000)
    assert made.poll(int(PATIENCE_S * 1000))
    assert len(made.recv_multipart()[1]) == 1000


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open(context: zmq.Context[Socket]) -> None:
    made = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=None)
    with pytest.raises(zmq.ZMQError, match="Address already in use"):
        listen(context, zmq.ROUTER, "--listen", endpoint(made), guard=None)
    made.close(linger=0)
    listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=None)
