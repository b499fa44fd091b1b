"""A session's encoded chunks in one .mp4 file that ordinary players read.

Decides what is written once, what is left out, and how times go on across encoders; must never know where chunks come
from.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from runtime.encode.boxes import fragment_times, placed
from runtime.encode.chunk import EncodedChunk
from runtime.encode.part_file import PartFile

SEQUENCE_MAX = 2**32 - 1


class OtherStreamError(ValueError):
    """A chunk that this file cannot hold; another file can."""


class Mp4File:
    """Written under a temporary name beside `path` and playable at any time; it gets its name when it is closed.

    Its first chunk is at 0. Within a lineage the chunk numbers say the time, whoever encoded them; a lineage whose
    times would go back begins where the one before has ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = PartFile(path)
        self._init: bytes | None = None
        self._last: tuple[int, int] | None = None  # lineage and number
        self._end = 0  # in the track's units
        self._shift: int | None = None  # of this lineage's times
        self._fragments = 0

    def __enter__(self) -> Mp4File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def chunks(self) -> int:
        """That were written."""
        return self._fragments

    def append(self, encoded: EncodedChunk) -> bool:
        """Write a chunk. Returns False for one that is not newer than the last, or that nothing before makes playable.

        Raises `OtherStreamError` for pictures of another kind, and `BadBoxesError` for what is no fragment.
        """
        if encoded.kind != "h264":
            raise OtherStreamError(f"{self._path.name}: kind={encoded.kind} must be h264")
        here = (encoded.lineage, encoded.number)
        if self._last is not None and here <= self._last:
            return False
        if self._init is None and (encoded.init is None or not encoded.key_frame):
            return False
        if self._init is not None and encoded.init not in (None, self._init):
            raise OtherStreamError(
                f"{self._path.name}: from chunk {encoded.number} of lineage {encoded.lineage} on, the stream has "
                "another size, rate or codec setting: write it to another file"
            )
        self._write(encoded)
        self._last = here
        return True

    def close(self) -> None:
        """Give the file its name; a file without chunks is removed."""
        self._file.close(keep=self._fragments > 0)

    def _write(self, encoded: EncodedChunk) -> None:
        times = fragment_times(encoded.body)
        shift = self._shift
        if shift is None:
            shift = -times.start
        elif self._last is not None and encoded.lineage != self._last[0]:
            shift = max(shift, self._end - times.start)
        assert self._fragments < SEQUENCE_MAX, f"{self._path.name} has as many chunks as can be counted"
        start = times.start + shift
        body = placed(encoded.body, times, sequence=self._fragments + 1, start=start)
        self._file.stream.write(body if self._init is not None or encoded.init is None else encoded.init + body)
        self._file.stream.flush()
        self._fragments += 1
        self._init = self._init or encoded.init
        self._shift, self._end = shift, start + times.duration
