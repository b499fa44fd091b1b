"""The file of an event log, written by a thread of its own.

Decides how much may wait and how long a file may get, and when nothing is recorded any more; must never know what
happened. Whoever puts lines in never waits for the disk, and nothing here ends but the recording.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runtime.recording.events import EVENTS_FORMAT, LINE_BYTES_MAX, Began, Event, RecordingEnded, of_line, to_line
from traces.errors import BadInputError

BYTES_MAX = 1 << 30  # of a file
WAITING_BYTES_MAX = LINE_BYTES_MAX + (8 << 20)  # lines that the disk has not taken
SPARE_BYTES = 256  # for the last line
CLOSE_S = 5.0  # for what waits
_MODE = 0o600  # session ids are in it
_FIRST = b'{"kind":"began"'


class Sink:
    """Appends to `path`. Raises `BadInputError` where that cannot be: it is told before anything is served."""

    def __init__(self, path: Path, *, bytes_max: int = BYTES_MAX, waiting_bytes_max: int = WAITING_BYTES_MAX) -> None:
        self._path, self._bytes_max, self._waiting_bytes_max = path, bytes_max, waiting_bytes_max
        self._file = _opened(path)
        self._size = os.fstat(self._file).st_size
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._last_s = 0.0  # when the newest line that waits or is written has happened
        self._closing = False
        self._over = False  # nothing is taken any more
        self._too_slow = False
        self._news: list[str] = []
        if self._size > bytes_max - SPARE_BYTES:
            self._end(self._too_large())
        self._thread = threading.Thread(target=self._run, name="recording", daemon=True)
        self._thread.start()

    def put(self, events: Sequence[Event]) -> None:
        """Never waits for the disk. Where it falls too far behind, recording ends."""
        if not events or self._over:
            return
        lines = b"".join(map(to_line, events))
        with self._changed:
            if self._over or self._too_slow:
                return
            if len(self._waiting) + len(lines) > self._waiting_bytes_max:
                self._too_slow = True
            else:
                self._waiting += lines
                self._last_s = events[-1].t_s
            self._changed.notify()

    def news(self) -> list[str]:
        """For people: why nothing is recorded any more, once."""
        if not self._news:
            return []
        with self._changed:
            found, self._news = self._news, []
        return found

    def close(self) -> None:
        """What waits is written, if the disk takes it in time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except OSError as error:
            self._end(f"{error.strerror}; make room, and restart the controller to record again")
        finally:
            with contextlib.suppress(OSError):
                os.close(self._file)

    def _turn(self) -> bool:
        """Write what waits; false once there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing or self._too_slow or self._over)
            lines, self._waiting = bytes(self._waiting), bytearray()
            too_slow, closing, last_s = self._too_slow, self._closing, self._last_s
            if self._over:
                return False
        room = self._bytes_max - SPARE_BYTES - self._size
        if len(lines) > room:
            self._write(lines[: lines.rfind(b"\n", 0, max(0, room)) + 1])
            self._write(to_line(RecordingEnded(t_s=last_s, reason="too large")))
            self._end(self._too_large())
            return False
        self._write(lines)
        if too_slow:
            self._write(to_line(RecordingEnded(t_s=last_s, reason="too slow")))
            self._end("the disk is too slow")
            return False
        return not closing or bool(self._waiting)

    def _write(self, lines: bytes) -> None:
        left = memoryview(lines)
        while left:
            written = os.write(self._file, left)
            self._size += written
            left = left[written:]

    def _too_large(self) -> str:
        return f"it has {self._bytes_max >> 20} MiB; move it away, and restart the controller to record again"

    def _end(self, reason: str) -> None:
        with self._changed:
            self._over = True
            self._waiting = bytearray()
            self._news.append(f"nothing is recorded in {self._path.name} any more: {reason}")


def _opened(path: Path) -> int:
    """For appending, behind its last whole line, and by nobody else."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
    except OSError as error:
        raise BadInputError.of(str(path), f"cannot be recorded to: {error.strerror}; give another file") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _mend(file, path)
    except BlockingIOError:
        os.close(file)
        raise BadInputError.of(str(path), "another controller records to it; give another file") from None
    except OSError as error:
        os.close(file)
        raise BadInputError.of(str(path), f"cannot be recorded to: {error.strerror}; give another file") from None
    except BadInputError:
        os.close(file)
        raise
    return file


def _mend(file: int, path: Path) -> None:
    """Take away a last line that was cut off. Raises `BadInputError` for a file that is no event log."""
    size = os.fstat(file).st_size
    if not size:
        return
    with open(file, "rb", closefd=False) as stream:
        head = stream.readline(LINE_BYTES_MAX)
        start = max(0, size - LINE_BYTES_MAX)
        stream.seek(start)
        end = stream.read().rfind(b"\n") + 1
    if not _begins(head) or (start and not end):
        raise BadInputError.of(str(path), f"is no {EVENTS_FORMAT}; give another file", 1)
    os.ftruncate(file, start + end)


def _begins(head: bytes) -> bool:
    """Whether a log begins so, or is nothing but the beginning of one."""
    if not head.endswith(b"\n"):
        return head[: len(_FIRST)] == _FIRST[: len(head)]
    try:
        return isinstance(of_line(head), Began)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
