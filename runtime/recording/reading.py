"""The lines of an event log, one by one.

Decides what is readable, and that a line that was cut off at the end is none; must never know what follows from one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from runtime.recording.events import LINE_BYTES_MAX, Event, of_line
from traces.errors import BadInputError

_PLACE = re.compile(r" - at `\$\.?(?P<field>.*)`$")


def read_events(path: Path) -> Iterator[tuple[int, Event]]:
    """With the number of each line. Raises `BadInputError` with line and field for what is no event."""
    try:
        stream = path.open("rb")
    except OSError as error:
        raise BadInputError.of(
            str(path), f"cannot be read: {error.strerror}; give the path of an event log, as epochal serve writes it"
        ) from None
    with stream:
        number = 0
        while line := stream.readline(LINE_BYTES_MAX + 1):
            number += 1
            if len(line) > LINE_BYTES_MAX:
                raise BadInputError.of(str(path), f"line must have at most {LINE_BYTES_MAX} bytes", number)
            if line.endswith(b"\n"):
                yield number, _event(line, str(path), number)


def _event(line: bytes, source: str, number: int) -> Event:
    try:
        return of_line(line)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        message = text if place is None else f"{place['field']} must be right: {text[: place.start()]}"
        raise BadInputError.of(source, message, number) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInputError.of(source, f"line must be one JSON object: {error}", number) from None
