"""`epochal store`: where pairs of workers meet.

Decides what the command takes; must never know who meets.
"""

from __future__ import annotations

import threading
from typing import Annotated, Any

import typer

from runtime.cli.devices import parts_are_there
from runtime.cli.errors import told
from runtime.cli.long_running import stop_on_signals, teller

_EPILOG = (
    "Example: epochal store --listen 127.0.0.1:7103, and epochal worker --store 127.0.0.1:7103. It knows no keys and "
    "stays on this machine. While it is away, states travel over TCP. Ctrl-C and SIGTERM end it. "
    "Exit codes: 0 stopped, 1 failed, 2 bad input."
)

STORE_COMMAND: dict[str, Any] = {"epilog": _EPILOG}


def store_command(
    listen: Annotated[str, typer.Option(help="Where workers come: HOST:PORT of this machine.")] = "127.0.0.1:7103",
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False,
) -> None:
    """Let pairs of workers meet, so that states go over NCCL between GPUs and over gloo between processors."""
    with told(), parts_are_there():
        from runtime.transfer.meeting_place import open_meeting_place
        from runtime.worker.process.addresses import store_address

        stopped = threading.Event()
        stop_on_signals(stopped.set)
        place = open_meeting_place("--listen", store_address("--listen", listen))
        teller(quiet=quiet)(f"store: workers meet at {listen}")
        stopped.wait()
        del place
