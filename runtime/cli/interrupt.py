"""Ctrl-C while something long is being worked out.

Decides that the first one asks for what there is so far and the second aborts; must never know what is worked out.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class StopFlag:
    """Whether somebody asked to stop; called by whoever works."""

    raised: bool = False

    def __call__(self) -> bool:
        return self.raised


@contextmanager
def first_interrupt_stops(kept: str = "the best schedule so far is kept") -> Iterator[StopFlag]:
    """Raise the flag on the first SIGINT, and say what then happens; the second one is a `KeyboardInterrupt`."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag  # signals belong to the main thread
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        if flag.raised:
            raise KeyboardInterrupt
        flag.raised = True
        print(f"stopping; {kept} (Ctrl-C again aborts)", file=sys.stderr)

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, previous)
