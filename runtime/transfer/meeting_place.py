"""Where pairs of workers meet before they exchange states: torch's store.

Decides where it listens; must never know who meets. It knows no keys, so that it is for one machine.
"""

from __future__ import annotations

import socket
from datetime import timedelta

from torch._C._distributed_c10d import TCPStore

from traces.errors import BadInputError

_ANSWER_S = 30.0


def open_meeting_place(option: str, address: tuple[str, int]) -> TCPStore:
    """There as long as it is kept. Raises `BadInputError` where nobody can listen there.

    Left to itself the store would listen on every address of the machine.
    """
    host, port = address
    try:
        listening = socket.create_server(address)
    except OSError as error:
        raise BadInputError.of(option, f"{host}:{port} must be a free address: {error.strerror}") from None
    return TCPStore(
        host,
        port,
        None,
        is_master=True,
        timeout=timedelta(seconds=_ANSWER_S),
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
