"""Who gets through to a socket with keys: over real connections, with right, wrong, unknown and revoked ones."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from runtime.security.certificates import add, key_pair, make, remove
from runtime.security.doorkeeper import Doorkeeper, Reread
from runtime.security.listening import Guard, listen
from runtime.worker.process.addresses import CurveKeys
from runtime.worker.process.connection import Connection
from tests.runtime.security.peers import PATIENCE_S, REFUSED, Server, Socket, a_client, a_server, keys_of, until
from traces.errors import BadInputError

HOUR_S = 3600.0  # nothing is read again unasked


def stranger(folder: Path) -> CurveKeys:
    """It knows the server's key, as anybody may, and has made one for itself."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public=public, secret=secret, server=keys_of(folder, "worker-0").server)


def test_a_key_on_the_list_gets_through_and_tells_whose_it_is(tmp_path: Path) -> None:
    with a_server(tmp_path / "keys") as server:
        for name in ("worker-1", "worker-0"):
            server.client(keys_of(tmp_path / "keys", name)).send(b"hello")
            assert server.hear() == (name, b"hello")
        assert server.door is not None
        assert (server.door.let_in, server.door.refused) == (2, 0)


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    with a_server(tmp_path / "keys") as server:
        server.client(stranger(tmp_path / "keys")).send(b"hello")
        assert server.event(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        server.client(keys_of(tmp_path / "keys", "worker-0")).send(b"mine")
        assert server.hear() == ("worker-0", b"mine")  # it still listens
        assert server.door is not None
        assert server.door.refused >= 1


def test_without_a_doorkeeper_the_same_key_would_get_through(tmp_path: Path) -> None:
    """CURVE alone hides what is said, and asks nobody who may say it: what refuses is the doorkeeper."""
    make(tmp_path / "keys", 1)
    keys = key_pair(tmp_path / "keys/controllers/controller.key_secret")
    context: zmq.Context[Socket] = zmq.Context()
    try:
        server: Socket = context.socket(zmq.ROUTER)
        server.set(zmq.CURVE_SERVER, 1)
        server.set(zmq.CURVE_SECRETKEY, keys.secret)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client = a_client(context, f"tcp://127.0.0.1:{port}", stranger(tmp_path / "keys"))
        client.send(b"hello")
        assert server.poll(int(PATIENCE_S * 1000))
        assert server.recv_multipart()[1] == b"hello"
    finally:
        context.destroy(linger=0)


def test_without_its_doorkeeper_a_socket_lets_nobody_in(tmp_path: Path) -> None:
    with a_server(tmp_path / "keys") as server:
        assert server.door is not None
        server.door.close()
        server.client(keys_of(tmp_path / "keys", "worker-0")).send(b"hello")
        assert server.event(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED) & REFUSED
        assert not server.socket.poll(0)


def test_the_wrong_server_is_not_spoken_to(tmp_path: Path) -> None:
    with a_server(tmp_path / "keys") as server:
        right = keys_of(tmp_path / "keys", "worker-0")
        other, _ = zmq.curve_keypair()
        wrong = CurveKeys(public=right.public, secret=right.secret, server=other)
        server.client(wrong).send(b"for the other one")
        event = server.event(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        assert event & REFUSED
        assert server.door is not None
        assert (server.door.let_in, server.door.refused) == (0, 0)  # it has not come so far as to be asked about
        assert not server.socket.poll(0)


def test_who_has_no_keys_is_refused(tmp_path: Path) -> None:
    with a_server(tmp_path / "keys") as server:
        server.client(None).send(b"hello")
        assert server.event(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED) & REFUSED
        assert not server.socket.poll(0)


def test_whose_key_is_taken_away_is_heard_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with a_server(folder, look_s=HOUR_S) as server:
        keys, door = keys_of(folder, "worker-0"), server.door
        assert door is not None
        old = server.client(keys)
        old.send(b"before")
        assert server.hear() == ("worker-0", b"before")
        remove(folder, "worker-0")
        assert door.reread() == Reread(removed=("worker-0",))
        old.send(b"after")
        assert server.hear() == (None, b"after")  # the connection is there, and its messages are nobody's
        assert server.event(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        server.client(keys).send(b"again")
        assert server.event(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        server.client(keys_of(folder, "worker-1")).send(b"others")
        assert server.hear() == ("worker-1", b"others")


def test_a_new_key_under_an_old_name_does_not_revive_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with a_server(folder, look_s=HOUR_S) as server:
        old = server.client(keys_of(folder, "worker-0"))
        old.send(b"before")
        assert server.hear()[0] == "worker-0"
        remove(folder, "worker-0")
        add(folder, "worker", "worker-0")
        assert server.door is not None
        assert server.door.reread() == Reread(added=("worker-0",), removed=("worker-0",))
        old.send(b"after")
        assert server.hear() == (None, b"after")
        server.client(keys_of(folder, "worker-0")).send(b"new")
        assert server.hear() == ("worker-0", b"new")


def a_worker(server: Server, keys: CurveKeys) -> Connection:
    """A worker's own connection, which goes on trying after it was refused."""
    return Connection(server.context.socket(zmq.DEALER), server.address, keys, sent_max=8, received_max=8)


def says(worker: Connection, frame: bytes) -> bool:
    worker.look(time.monotonic())
    return worker.try_to_send(frame)


def test_folders_are_looked_at_without_being_asked(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with a_server(folder, look_s=0.01) as server:
        add(folder, "worker", "late")
        worker = a_worker(server, keys_of(folder, "late"))
        until(lambda: says(worker, b"hello"), "a connection")
        assert server.hear() == ("late", b"hello")


def test_a_worker_that_is_let_in_later_gets_through_by_itself(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with a_server(folder, look_s=HOUR_S) as server:
        add(folder, "worker", "late")
        worker = a_worker(server, keys_of(folder, "late"))
        assert server.event(REFUSED) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        assert server.door is not None
        assert server.door.reread().added == ("late",)
        until(lambda: says(worker, b"hello"), "a connection")
        assert server.hear() == ("late", b"hello")


def test_a_bad_file_keeps_its_owner_out_and_a_bad_folder_everybody(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    with a_server(folder, look_s=HOUR_S) as server:
        door = server.door
        assert door is not None
        (folder / "workers/worker-0.key").write_text("half a fi")
        found = door.reread()
        assert (found.removed, len(found.findings)) == (("worker-0",), 1)
        assert "worker-0.key: must be a readable CURVE certificate" in str(found.findings[0])
        server.client(keys_of(folder, "worker-1")).send(b"hello")
        assert server.hear() == ("worker-1", b"hello")
        os.chmod(folder / "workers", 0o777)  # noqa: S103 - as somebody might
        found = door.reread()
        assert (found.removed, door.findings) == (("worker-1",), found.findings)
        assert "others may write to it (mode 0777): chmod go-w" in str(found.findings[0])


def test_a_key_let_in_here_is_not_let_in_there(tmp_path: Path) -> None:
    """A worker cannot speak as a gateway."""
    folder = tmp_path / "keys"
    make(folder, 1)
    context: zmq.Context[Socket] = zmq.Context()
    door = Doorkeeper(context, {"workers": folder / "workers", "gateways": folder / "gateways"}, look_s=HOUR_S)
    try:
        keys = key_pair(folder / "controllers/controller.key_secret")
        guard = Guard(keys=keys, door=door, domain="gateways")
        server = listen(context, zmq.PULL, "--listen", "tcp://127.0.0.1:0", guard=guard)
        monitor = server.get_monitor_socket(REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        client = a_client(context, server.get_string(zmq.LAST_ENDPOINT), keys_of(folder, "worker-0"), zmq.PUSH)
        assert not client.closed
        assert monitor.poll(int(PATIENCE_S * 1000))
        assert int.from_bytes(monitor.recv_multipart()[0][:2], "little") == zmq.EVENT_HANDSHAKE_FAILED_AUTH
    finally:
        door.close()
        context.destroy(linger=0)


def test_what_comes_without_keys_has_no_name(tmp_path: Path) -> None:
    make(tmp_path / "keys", 1)
    context: zmq.Context[Socket] = zmq.Context()
    door = Doorkeeper(context, {"workers": tmp_path / "keys/workers"}, look_s=HOUR_S)
    try:
        server = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=None)
        client = a_client(context, server.get_string(zmq.LAST_ENDPOINT), None)
        client.send(b"hello")
        assert server.poll(int(PATIENCE_S * 1000))
        assert door.name_of("workers", server.recv_multipart(copy=False)[-1]) is None
    finally:
        door.close()
        context.destroy(linger=0)


def test_it_begins_only_with_folders_that_can_be_used(tmp_path: Path) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    make(tmp_path / "keys", 1)
    try:
        with pytest.raises(BadInputError, match="must be a readable folder of certificates"):
            Doorkeeper(context, {"workers": tmp_path / "absent"})
        (tmp_path / "keys/workers/twin.key").write_bytes((tmp_path / "keys/workers/worker-0.key").read_bytes())
        with pytest.raises(BadInputError, match="has the key of twin: each needs one of its own"):
            Doorkeeper(context, {"workers": tmp_path / "keys/workers"})
    finally:
        context.destroy(linger=0)


def test_it_serves_sockets_of_an_asyncio_context(tmp_path: Path) -> None:

    folder = tmp_path / "keys"
    make(folder, 1)

    async def case() -> None:
        context = zmq.asyncio.Context()
        door = Doorkeeper(context, {"workers": folder / "workers"})
        try:
            guard = Guard(keys=key_pair(folder / "controllers/controller.key_secret"), door=door, domain="workers")
            server = listen(context, zmq.ROUTER, "--listen", "tcp://127.0.0.1:0", guard=guard)
            plain: zmq.Context[Socket] = zmq.Context.shadow(context.underlying)
            with a_client(plain, server.get_string(zmq.LAST_ENDPOINT), keys_of(folder, "worker-0")) as client:
                client.send(b"hello")
                frames = await asyncio.wait_for(server.recv_multipart(copy=False), PATIENCE_S)
            assert door.name_of("workers", frames[-1]) == "worker-0"
        finally:
            door.close()
            context.destroy(linger=0)

    asyncio.run(case())
