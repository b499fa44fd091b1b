"""The controller's sockets: what is none of its messages is dropped, and with keys nobody is somebody else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from msgspec.structs import replace

from runtime.controller.process.wires import Wires
from runtime.controller.step import Word
from runtime.gateway import messages as gate
from runtime.journal.truth import Truth
from runtime.security.certificates import add, client_keys, make
from runtime.worker.messages import Close, Command
from runtime.worker.process.messages import PROTOCOL, Goodbye, Hello, encoded, from_controller
from traces.errors import BadInputError

PATIENCE_S = 30
ANY = "tcp://127.0.0.1:0"
HELLO = Hello(
    protocol=PROTOCOL,
    worker="w",
    incarnation=1,
    revision="r",
    profiles=(),
    device_bytes=0,
    host_bytes=0,
    coalesce_max=1,
    ways=(),
    sent_s=0.0,
)
HERE = gate.Here(gateway="g", since=1, protocol=1, sent_s=0.0)


def goodbye(name: str) -> bytes:
    return encoded(Goodbye(worker=name, incarnation=1, reason="stopped"))


@contextmanager
def dealer(address: str, identity: str, keys: Path | None = None, role: str = "workers") -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as made:
        made.set(zmq.LINGER, 0)
        made.set(zmq.ROUTING_ID, identity.encode())
        if keys is not None:
            own = client_keys(
                keys / role / f"{identity.partition('/')[0]}.key_secret", keys / "controllers" / "controller.key"
            )
            made.set(zmq.CURVE_PUBLICKEY, own.public)
            made.set(zmq.CURVE_SECRETKEY, own.secret)
            made.set(zmq.CURVE_SERVERKEY, own.server)
        made.connect(address)
        yield made


def heard(wires: Wires, count: int = 1) -> list[object]:
    """The next messages; what is dropped counts."""
    found: list[object] = []
    end_s = time.monotonic() + PATIENCE_S
    while len(found) + wires.dropped < count:
        assert time.monotonic() < end_s, f"{found}, {wires.dropped} dropped"
        found += wires.heard()
        time.sleep(0.01)
    return found


@pytest.fixture
def wires() -> Iterator[Wires]:
    made = Wires(ANY, ANY)
    yield made
    made.close()


def test_words_reach_the_incarnation_that_is_meant(wires: Wires) -> None:
    with dealer(wires.addresses[0], "w/7") as worker:
        worker.send(goodbye("w"))
        assert heard(wires) == [Goodbye(worker="w", incarnation=1, reason="stopped")]
        body = Close(session_id="s")
        wires.say(Word(worker="w", body=body), Truth(controller_epoch=3))  # nobody of that name is written down
        wires.say(Word(worker="w", body=body), Truth(controller_epoch=3, workers={"w": 6}))
        for _ in range(2):
            wires.say(Word(worker="w", body=body), Truth(controller_epoch=3, workers={"w": 7}))
        assert worker.poll(1000 * PATIENCE_S)
        first, second = (from_controller([worker.recv()]) for _ in range(2))
        assert isinstance(first, Command)
        assert isinstance(second, Command)
        assert (first.controller_epoch, first.incarnation, first.body) == (3, 7, body)
        assert second.version > first.version


def test_what_is_no_message_is_dropped_and_counted(wires: Wires) -> None:
    with dealer(wires.addresses[0], "w/1") as worker, dealer(wires.addresses[1], "g") as gateway:
        worker.send(b"nonsense")
        worker.send_multipart([goodbye("w"), goodbye("w")])
        worker.send(gate.encoded(HERE))
        gateway.send(goodbye("w"))
        gateway.send(gate.encoded(HERE))
        assert heard(wires, 5) == [HERE]
        assert wires.dropped == 4
        wires.reply(gate.Prompted(session_id="s", serial=1))
        assert gateway.poll(1000 * PATIENCE_S)
        assert gate.to_gateway(gateway.recv()) == gate.Prompted(session_id="s", serial=1)


def test_with_keys_nobody_speaks_for_another(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    make(keys, 0)
    for name in ("a", "b"):
        add(keys, "worker", name)
    wires = Wires(ANY, ANY, keys)
    try:
        with dealer(wires.addresses[0], "a/1", keys) as worker, dealer(wires.addresses[0], "b/1") as stranger:
            stranger.send(goodbye("b"))  # without a key it is not let in
            worker.send(goodbye("b"))
            worker.send(goodbye("b"))
            worker.send(goodbye("a"))
            assert heard(wires, 3) == [Goodbye(worker="a", incarnation=1, reason="stopped")]
            assert wires.dropped == 2
            (told,) = wires.news()
            assert told.startswith("a worker with the key of 'a' calls itself 'b', and is not heard: give it --name=a,")
        with dealer(wires.addresses[1], "gateway", keys, "gateways") as gateway:
            gateway.send(gate.encoded(HERE))
            assert heard(wires, 3) == [HERE]
    finally:
        wires.close()


def test_nobody_else_can_reach_it_without_keys() -> None:
    with pytest.raises(BadInputError, match="--workers"):
        Wires("tcp://0.0.0.0:7100", ANY)


def test_whoever_speaks_another_protocol_is_told_of_once_and_not_listened_to(wires: Wires) -> None:
    with dealer(wires.addresses[0], "w/1") as worker, dealer(wires.addresses[1], "g") as gateway:
        for _ in range(2):
            worker.send(encoded(replace(HELLO, protocol=PROTOCOL + 1)))
        assert heard(wires, 2) == []
        (line,) = wires.news()
        assert f"w speaks protocol {PROTOCOL + 1}" in line
        worker.send(encoded(HELLO))
        assert heard(wires, 3) == [HELLO]
        gateway.send(gate.encoded(replace(HERE, protocol=9)))
        assert heard(wires, 3) == []
        (line,) = wires.news()
        assert "g speaks protocol 9" in line
