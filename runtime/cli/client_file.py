"""The file that a watched stream is written to.

Decides how each encoding is kept, and what is refused before anything begins; must never know where chunks come from.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from runtime.client import Chunk
from runtime.encode.chunk import EncodedChunk
from runtime.encode.mp4_file import Mp4File, OtherStreamError
from scheduler.cluster import SessionId
from traces.errors import BadInputError

FILES_MAX = 100  # of one stream


class StreamFile:
    """H.264 as a fragmented .mp4; a stream that goes on in another form goes on in `NAME.2.mp4`, `NAME.3.mp4`, ...

    Playable at any time, and whatever ends the process; it has its name when it is closed.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix != ".mp4":
            raise BadInputError.of("-o", f"{path} must end in .mp4")
        if not path.absolute().parent.is_dir():
            raise BadInputError.of("-o", f"the folder of {path} must be there: make it first")
        self._path = path
        self._files: list[Mp4File] = []
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
        """Raises `BadInputError` for what is no H.264, OSError for a full disk, `BadBoxesError` for no fragment."""
        if not chunk.picture.codec.startswith("avc1"):
            fix = "leave -o out, or open a session with --encoding h264"
            raise BadInputError.of("-o", f"the session's chunks are {chunk.picture.codec}; {fix}")
        encoded = EncodedChunk(
            session_id=SessionId("watched"),
            lineage=chunk.lineage,
            number=chunk.seq,
            kind="h264",
            init=chunk.init or None,
            body=chunk.body,
            key_frame=chunk.key_frame,
        )
        try:
            file = self._files[-1] if self._files else self._another()
            self.chunks += file.append(encoded)
        except OtherStreamError:
            self.chunks += self._another().append(encoded)

    def _another(self) -> Mp4File:
        number = len(self._files) + 1
        if number > FILES_MAX:
            raise BadInputError.of("-o", f"the stream has changed its form {FILES_MAX} times: watch it without -o")
        path = self._path if number == 1 else self._path.with_suffix(f".{number}.mp4")
        self._files.append(Mp4File(path))
        self._paths.append(path)
        return self._files[-1]
