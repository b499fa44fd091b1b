"""Pictures out of a client's chunks, small enough to be looked at in a terminal.

Decides how each kind is decoded; must never know where chunks come from or where pictures go.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import av
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from runtime.encode.mjpeg import parts_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class UndecodableError(ValueError):
    """Bytes that no decoder of ours reads."""


class Decoder:
    """Of one stream, whose chunks come in order."""

    def __init__(self) -> None:
        self._init = b""
        self._h264: VideoCodecContext | None = None

    def pictures(self, codec: str, init: bytes, body: bytes, shape: tuple[int, int, int]) -> list[VideoFrame]:
        """All of a chunk. `codec` as `video.start` has it; `shape` (frames, height, width) is that of raw chunks.

        Raises `UndecodableError`.
        """
        try:
            if codec == "raw":
                raw = np.frombuffer(body, np.uint8).reshape(*shape, 3)
                return [VideoFrame.from_ndarray(each, format="rgb24") for each in raw]
            if codec == "mjpeg":
                return [frame for part in parts_of(body) for frame in _of_jpeg(part.jpeg)]
            return self._of_h264(init, body)
        except (FFmpegError, ValueError) as error:
            raise UndecodableError(f"a chunk of {codec} cannot be decoded: {error}") from error

    def _of_h264(self, init: bytes, body: bytes) -> list[VideoFrame]:
        """A fragment is unpacked by a demuxer of its own; the decoder goes on from chunk to chunk."""
        begins = bool(init) and init != self._init
        self._init = init or self._init
        found: list[VideoFrame] = []
        with av.open(io.BytesIO(self._init + body), "r", format="mp4") as demuxer:
            stream = demuxer.streams.video[0]
            if begins or self._h264 is None:
                self._h264 = _opened("h264")
                self._h264.extradata = stream.codec_context.extradata
            for packet in demuxer.demux(stream):
                if packet.size:
                    found += self._h264.decode(packet)
        return found


def scaled(picture: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """RGB, [height, width, 3]."""
    return picture.reformat(width=width, height=height, format="rgb24").to_ndarray().astype(np.uint8, copy=False)


def _of_jpeg(data: bytes) -> list[VideoFrame]:
    return _opened("mjpeg").decode(av.Packet(data))


def _opened(codec: str) -> VideoCodecContext:
    context = CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1  # no frame waits for a thread
    return context
