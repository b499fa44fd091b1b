"""What a worker writes, kept within a bound.

Decides what is kept and which lines are told; must never know who writes.

The worker appends to a file of its own, because it outlives whoever reads it. `trim` empties the file once it is
longer than the bound and keeps what was in it under a second name: together they hold twice the bound, and what is
written between two calls.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOG_BYTES_MAX = 1 << 20
LINES_MAX = 20
LINE_CHARACTERS_MAX = 400
_BEGINNING = b"---- a worker begins ----\n"
_TAIL_BYTES = LINES_MAX * LINE_CHARACTERS_MAX


class LogFile:
    """At `path`, and the past at `path` with `.1`."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        self.path, self._bytes_max = path, bytes_max
        self._past = path.with_name(f"{path.name}.1")

    def begin(self) -> None:
        """A new writer: lines before this are not its own. Raises `OSError`."""
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
            file.write(_BEGINNING)

    def trim(self) -> None:
        """Nothing if it is short enough, or not there. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.stat().st_size <= self._bytes_max:
                return
            kept = _end_of(self.path, self._bytes_max)
            made = self._past.with_name(f"{self._past.name}.new")
            try:
                with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(kept)
                made.replace(self._past)
            finally:
                made.unlink(missing_ok=True)
            os.truncate(self.path, 0)

    def last_lines(self) -> tuple[str, ...]:
        """At most `LINES_MAX`, each cut, with nothing in them that a terminal would obey."""
        text = _end_of(self.path, _TAIL_BYTES)
        if len(text) < _TAIL_BYTES and _BEGINNING not in text:
            text = _end_of(self._past, _TAIL_BYTES - len(text)) + text
        lines = text.rpartition(_BEGINNING)[2].decode(errors="replace").splitlines()[-LINES_MAX:]
        return tuple(plain(line[:LINE_CHARACTERS_MAX]) for line in lines)

    def remove(self) -> None:
        for path in (self.path, self._past):
            path.unlink(missing_ok=True)


def _end_of(path: Path, bytes_max: int) -> bytes:
    """Nothing of a file that is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - bytes_max))
            return file.read(bytes_max)
    except FileNotFoundError:
        return b""


def plain(line: str) -> str:
    return "".join(character if character.isprintable() else " " for character in line)
