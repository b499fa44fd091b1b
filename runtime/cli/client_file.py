"""The file that a watched stream is written to.

Decides which kind of file it is, and what is refused before anything begins; must never know where chunks come from.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from runtime.client import Chunk
from runtime.encode.chunk import EncodedChunk, Kind
from runtime.encode.mjpeg_file import MjpegFile
from runtime.encode.mp4_file import Mp4File, OtherStreamError
from scheduler.cluster import SessionId
from traces.errors import BadInputError

FILES_MAX = 100  # of one stream


class StreamFile:
    """An .mp4 file of H.264 or motion JPEG; a stream that takes another form goes on in `NAME.2.mp4`, `NAME.3.mp4`, ...

    Playable at any time, under a hidden name; it gets its own when it is closed. Raises `BadInputError`.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".mp4":
            raise BadInputError.of("-o", f"{path} must end in .mp4")
        if not path.absolute().parent.is_dir():
            raise BadInputError.of("-o", f"the folder of {path} must be there: make it first")
        self._path = path
        self._files: list[Mp4File | MjpegFile] = []
        self._paths: list[Path] = []
        self.chunks = 0  # that were written

    def __enter__(self) -> StreamFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    @property
    def paths(self) -> list[Path]:
        """Of what was written."""
        return [path for path, file in zip(self._paths, self._files, strict=True) if file.chunks]

    def append(self, chunk: Chunk) -> None:
        """Raises `BadInputError` for raw chunks, OSError for a full disk, `BadBoxesError` for what is no chunk."""
        codec = chunk.picture.codec
        kind: Kind | None = "h264" if codec.startswith("avc1") else "mjpeg" if codec == "mjpeg" else None
        if kind is None:
            raise BadInputError.of("-o", f"chunks that are {codec} cannot be kept: leave -o out")
        encoded = EncodedChunk(
            session_id=SessionId("watched"),
            lineage=chunk.lineage,
            number=chunk.seq,
            kind=kind,
            init=chunk.init or None,
            body=chunk.body,
            key_frame=chunk.key_frame,
        )
        try:
            file = self._files[-1] if self._files else self._another(kind)
            self.chunks += file.append(encoded)
        except OtherStreamError:
            self.chunks += self._another(kind).append(encoded)

    def _another(self, kind: Kind) -> Mp4File | MjpegFile:
        number = len(self._files) + 1
        if number > FILES_MAX:
            raise BadInputError.of("-o", f"the stream has changed its form {FILES_MAX} times: watch it without -o")
        path = self._path if number == 1 else self._path.with_suffix(f".{number}.mp4")
        self._files.append(Mp4File(path) if kind == "h264" else MjpegFile(path))
        self._paths.append(path)
        return self._files[-1]
