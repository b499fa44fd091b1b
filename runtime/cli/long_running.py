"""What commands have in common that run until somebody stops them.

Decides where they tell how things are, and what a signal means; must never know what runs.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType


def teller(*, quiet: bool) -> Callable[[str], None]:
    """Lines for people, on stderr."""
    return (lambda _: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))


def stop_on_signals(stop: Callable[[], None]) -> None:
    """`stop` only sets a flag: whoever runs looks at it soon."""

    def stopped(_number: int, _frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
