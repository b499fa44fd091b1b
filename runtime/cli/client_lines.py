"""What somebody types while a session is watched.

Decides which lines there are, and reads them from a terminal, a pipe or a file; must never know what they bring about.
"""

from __future__ import annotations

import asyncio
import os
import threading
from dataclasses import dataclass
from typing import Literal, get_args

Verb = Literal["prompt", "control", "pause", "resume", "end", "help"]

HELP = "prompt: TEXT | control: left, right, up, down, stop, or nothing to let go | pause | resume | end | help"
LINE_BYTES_MAX = 16 << 10
WAITING_MAX = 64  # lines; whoever writes more has to wait
_TAKES_TEXT = ("prompt", "control")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    verb: Verb
    text: str = ""


def line_of(typed: str) -> Line | None:
    """None for an empty one. Raises ValueError for what is no line."""
    if not typed.strip():
        return None
    word, colon, rest = typed.partition(":")
    word = word.strip().lower()
    for verb in get_args(Verb):
        if word == verb and bool(colon) == (verb in _TAKES_TEXT):
            return Line(verb=verb, text=rest.strip())
    raise ValueError(HELP)


class Lines:
    """Lines of a file descriptor, which may be a terminal, a pipe or a file, read by a thread of its own.

    None: there is none. The thread ends with the process; nobody waits for it.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(WAITING_MAX)
        self._read: asyncio.Queue[str] = asyncio.Queue()
        if descriptor is not None:
            threading.Thread(target=self._run, args=(descriptor,), name="lines", daemon=True).start()

    async def next(self) -> str:
        """Waits for ever where nothing more is typed."""
        line = await self._read.get()
        self._room.release()
        return line

    def _run(self, descriptor: int) -> None:
        kept = b""
        while True:
            try:
                data = os.read(descriptor, LINE_BYTES_MAX)
            except OSError:
                return
            *whole, kept = (kept + data).split(b"\n")
            if not data or len(kept) > LINE_BYTES_MAX:  # the last line may lack its end; one that does not end is none
                whole, kept = [*whole, kept], b""
            for line in whole:
                self._room.acquire()
                try:
                    self._loop.call_soon_threadsafe(self._read.put_nowait, line.decode("utf-8", "replace"))
                except RuntimeError:  # the loop has ended
                    return
            if not data:
                return
