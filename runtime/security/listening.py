"""Sockets on which a controller or a gateway listens: bound with keys, bounds and deadlines, or not at all.

Decides what may be bound without keys: nothing that another machine or another user could reach by name; must never
know what travels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import zmq

from runtime.security.certificates import KeyPair
from runtime.security.doorkeeper import Doorkeeper
from runtime.worker.process.addresses import check_address, is_loopback
from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """CURVE, and who is asked about a key. One without the other would let everybody in."""

    keys: KeyPair
    door: Doorkeeper
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningBounds:
    """Messages are counted for each peer."""

    received_max: int = 1024
    sent_max: int = 1024
    frame_bytes_max: int = 1 << 20  # of a longer one not a byte is taken: its connection is closed
    waiting_max: int = 256  # connections that nobody has looked at
    handshake_ms: int = 5000  # for whoever connects and then says nothing
    ping_ms: int = 1000
    pong_ms: int = 5000
    linger_ms: int = 2000


def listen(
    context: zmq.Context[Any],
    kind: int,
    option: str,
    address: str,
    *,
    guard: Guard | None,
    bounds: ListeningBounds | None = None,
) -> Any:
    """A bound socket of that context (asyncio's too). `option` names where the address is from; port 0 is any free one.

    Raises `BadInputError` for an address that needs keys and has none, and `zmq.ZMQError` where it cannot be bound.
    """
    check_listening(option, address, has_keys=guard is not None)
    made = context.socket(kind)
    try:
        _bound(made, bounds or ListeningBounds())
        if kind == zmq.ROUTER:
            made.set(zmq.ROUTER_MANDATORY, 1)  # what cannot be sent is an error, not silence
            made.set(zmq.ROUTER_HANDOVER, 1)  # who comes again under its name has the connection
        if guard is not None:
            assert guard.door.context.underlying == context.underlying, "a doorkeeper is asked within its own context"
            assert guard.domain in guard.door.domains, "somebody has to know who is let in"
            made.set(zmq.CURVE_SERVER, 1)
            made.set(zmq.CURVE_PUBLICKEY, guard.keys.public)
            made.set(zmq.CURVE_SECRETKEY, guard.keys.secret)
            made.set(zmq.ZAP_DOMAIN, guard.domain.encode())
            made.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        if "[" in address:
            made.set(zmq.IPV6, 1)
        made.bind(address)
        _keep_private(made)
    except BaseException:
        made.close(linger=0)
        raise
    return made


def check_listening(option: str, address: str, *, has_keys: bool) -> None:
    """Raises `BadInputError` for what is no address, and for one that is open to others where there are no keys."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    check_address(option, f"tcp://{host}:1" if address.startswith("tcp://") and port == "0" else address, has_keys=True)
    if has_keys:
        return
    if address.startswith("ipc://@"):
        raise BadInputError.of(
            option,
            f"{address} has no file whose mode keeps others out: use ipc://PATH, or keys (epochal keys makes them)",
        )
    if address.startswith("tcp://") and not is_loopback(host):
        raise BadInputError.of(
            option,
            f"{address} is open to other machines, where anybody could speak: give keys (epochal keys makes them), or "
            "listen on 127.0.0.1",
        )


def endpoint(listening: Any) -> str:
    """Where it is bound, with the port that was found."""
    return bytes(listening.get(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()


def _bound(made: Any, bounds: ListeningBounds) -> None:
    made.set(zmq.RCVHWM, bounds.received_max)
    made.set(zmq.SNDHWM, bounds.sent_max)
    made.set(zmq.MAXMSGSIZE, bounds.frame_bytes_max)
    made.set(zmq.BACKLOG, bounds.waiting_max)
    made.set(zmq.HANDSHAKE_IVL, bounds.handshake_ms)
    made.set(zmq.HEARTBEAT_IVL, bounds.ping_ms)
    made.set(zmq.HEARTBEAT_TIMEOUT, bounds.pong_ms)
    made.set(zmq.HEARTBEAT_TTL, bounds.pong_ms)
    made.set(zmq.LINGER, bounds.linger_ms)


def _keep_private(made: Any) -> None:
    """Whoever may write to a socket's file may connect to it."""
    where = endpoint(made)
    if where.startswith("ipc://") and not where.startswith("ipc://@"):
        os.chmod(where.removeprefix("ipc://"), 0o600)
