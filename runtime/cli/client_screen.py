"""The terminal of somebody who watches a session: lines, how things are, and pictures of half blocks.

Decides what is written to a terminal and where; must never know a session. Nothing but printable characters is shown of
what others have written.
"""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS_MAX, ROWS_MAX = 64, 32  # of a picture
ROWS_BELOW = 6  # for how things are, the newest line, and what is typed
_HALF = "\N{UPPER HALF BLOCK}"


class Screen:
    """On stderr. How things are and pictures are shown only where that is a terminal."""

    def __init__(self, *, quiet: bool, pictures: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._quiet, self._is_terminal = quiet, self._stream.isatty()
        columns, lines = os.get_terminal_size(self._stream.fileno()) if self._is_terminal else (0, 0)
        self._columns, lines = columns or 80, lines or 24  # where the terminal does not say
        self._rows = max(1, min(ROWS_MAX, lines - ROWS_BELOW)) if pictures and self._is_terminal else 0

    @property
    def pixels_max(self) -> tuple[int, int]:
        """The largest picture, in columns and half rows."""
        return min(COLUMNS_MAX, self._columns), 2 * self._rows

    def __enter__(self) -> Screen:
        if self._rows:  # another screen, of which only the lines below the picture scroll
            below = self._rows + 3
            self._write(f"\x1b[?1049h\x1b[2J\x1b[{below};{below + ROWS_BELOW - 3}r\x1b[{below};1H")
        elif self._is_terminal and not self._quiet:
            self._write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            self._write("\x1b[r\x1b[0m\x1b[?1049l")

    def say(self, line: str) -> None:
        """A line for people."""
        if self._quiet:
            return
        if self._rows:
            self._at(self._rows + 2, line)
        elif self._is_terminal:  # in place of how things are, which moves below what is being typed
            self._write(f"\x1b[A\r\x1b[K{printable(line)}\n\r\x1b[K\n")
        else:
            self._write(printable(line) + "\n")

    def status(self, line: str) -> None:
        """How things are now."""
        if self._rows:
            self._at(self._rows + 1, line)
        elif self._is_terminal and not self._quiet:
            self._write(f"\x1b7\x1b[A\r\x1b[K{self._cut(line)}\x1b8")

    def show(self, picture: NDArray[np.uint8]) -> None:
        """RGB, [height, width, 3], no larger than `pixels_max`."""
        rows = half_blocks(picture)
        self._write("\x1b7" + "".join(f"\x1b[{at};1H{row}" for at, row in enumerate(rows, 1)) + "\x1b8")

    def _at(self, row: int, line: str) -> None:
        self._write(f"\x1b7\x1b[{row};1H\x1b[0m\x1b[K{self._cut(line)}\x1b8")

    def _cut(self, line: str) -> str:
        return printable(line)[: self._columns - 1]

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def half_blocks(picture: NDArray[np.uint8]) -> list[str]:
    """Rows of text, each of two rows of pixels: the upper one is the letters' colour, the lower one the ground's."""
    rows = []
    for top in range(0, len(picture) - 1, 2):
        parts, before = [], None
        for pair in zip(picture[top].tolist(), picture[top + 1].tolist(), strict=True):
            if pair != before:
                (r, g, b), (r2, g2, b2) = before = pair
                parts.append(f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m")
            parts.append(_HALF)
        rows.append("".join(parts) + "\x1b[0m")
    return rows
