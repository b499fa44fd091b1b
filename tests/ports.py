"""Ports for servers that tests start; decides which, and never holds one."""

from __future__ import annotations

import contextlib
import random
import socket

_PORTS = range(20_000, 32_000)  # below those that systems give to connections (from 32768 on Linux, 49152 elsewhere)


def free_port(host: str = "127.0.0.1") -> int:
    """On which nobody listens, and that no connection is given by chance. Raises `OSError` if all are taken."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    raise OSError(f"{host}: all ports of {_PORTS} are taken")
