"""Which addresses a worker connects to, and where it lets others connect.

Decides what may be used without keys: nothing beyond this machine; must never connect to anybody.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveKeys:
    """Of this worker, and of the controller and gateway that it trusts; Z85 text as ZeroMQ has it."""

    public: bytes
    secret: bytes
    server: bytes


def check_address(option: str, address: str, *, has_keys: bool) -> None:
    """Raises `BadInputError` for what is no address, and for another machine's where there are no keys."""
    transport, separator, rest = address.partition("://")
    if transport == "ipc" and rest:
        return
    host, _, port = rest.rpartition(":")
    if not separator or transport != "tcp" or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise BadInputError.of(option, f"{address!r} must be tcp://HOST:PORT or ipc://PATH")
    if not has_keys and not is_loopback(host):
        raise BadInputError.of(
            option,
            f"{address} leaves this machine, where anybody could listen and speak: give --keys and --server-key, or "
            "use 127.0.0.1",
        )


def store_address(option: str, text: str) -> tuple[str, int]:
    """Where pairs meet. That store knows no keys, so that it has to be on this machine."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise BadInputError.of(option, f"{text!r} must be HOST:PORT")
    if not is_loopback(host):
        raise BadInputError.of(option, f"{text} leaves this machine, and the store knows no keys: use 127.0.0.1")
    return host, int(port)


def check_states_host(option: str, host: str, *, has_keys: bool) -> None:
    """Raises `BadInputError` for what is no address of this machine, and beyond loopback where there are no keys.

    What lets a state in is told through the controller: without keys everybody could hear it.
    """
    try:
        socket.create_server((host, 0)).close()
    except OSError as error:
        raise BadInputError.of(option, f"{host!r} must be an address of this machine: {error.strerror}") from None
    if not has_keys and not is_loopback(host):
        raise BadInputError.of(
            option, f"{host} can be reached from other machines: give --keys and --server-key, or use 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Names are not looked up: only `localhost` counts."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_keys(own: Path, server: Path) -> CurveKeys:
    """From certificate files as `zmq.auth.create_certificates` writes them. Raises `BadInputError`."""
    from zmq.auth import load_certificate

    loaded = []
    for path in (own, server):
        try:
            loaded.append(load_certificate(path))
        except (OSError, ValueError) as error:
            raise BadInputError.of(str(path), f"must be a readable CURVE certificate: {error}") from None
    (public, secret), (server_public, _) = loaded
    if secret is None:
        raise BadInputError.of(str(own), "has no secret key: give the file that ends in .key_secret")
    return CurveKeys(public=public, secret=secret, server=server_public)
