"""H.264 in fragmented MP4: one init segment, then one fragment per chunk.

Decides how x264 runs and how its pictures are packed; must never know when a key frame is due, or who plays the video.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.codec.context import Flags
from av.error import FFmpegError
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc
from av.video.stream import VideoStream

from runtime.encode.boxes import split_init
from runtime.encode.chunk import EncodedChunk, EncoderError, FinishedChunk, Form
from runtime.encode.picture import VIDEO, Pictures

if TYPE_CHECKING:
    from av.packet import Packet

CODEC = "libx264"
BITS_PER_PIXEL_MAX = 0.5  # over a second; pictures without noise need a tenth
BITS_PER_S_MAX_LEAST = 1_000_000  # small pictures may always have this
_BT709 = 1  # H.273's number of the matrix

_CODEC_OPTIONS: Mapping[str, str] = {
    "preset": "superfast",
    "tune": "zerolatency",  # every frame leaves at once: no B-frames, no look-ahead
    "crf": "20",
    "forced-idr": "1",
    "x264-params": "keyint=infinite:scenecut=0",  # key frames are where they are asked for, and nowhere else
}
_MUXER_OPTIONS: Mapping[str, str] = {
    "movflags": "empty_moov+default_base_moof+frag_custom+frag_discont+skip_trailer",
    "use_editlist": "0",
    "avoid_negative_ts": "disabled",  # or else every fragment would begin at 0
    "fflags": "+bitexact",  # no versions and dates
}


class H264Encoder:
    """One stream. Its state is that of x264; each fragment is packed by a muxer of its own, which is then closed."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._pictures = Pictures(VIDEO, form.scale)
        self._begun = False
        try:
            self._stream, self._init = _opened(form)
        except FFmpegError as error:
            raise EncoderError(f"{CODEC} did not open: {error}") from error

    def encode(self, chunk: FinishedChunk, *, key_frame: bool) -> EncodedChunk:
        """A fragment with the chunk's frames; the first one comes with the init segment."""
        assert chunk.form == self._form, f"{chunk.form} is not {self._form}"
        first = not self._begun
        key_frame = key_frame or first
        try:
            body = self._fragment(chunk, key_frame=key_frame)
        except FFmpegError as error:
            raise EncoderError(f"{CODEC} failed at chunk {chunk.number}: {error}") from error
        self._begun = True
        return EncodedChunk(
            session_id=chunk.session_id,
            lineage=chunk.lineage,
            number=chunk.number,
            kind="h264",
            init=self._init if first else None,
            body=body,
            key_frame=key_frame,
        )

    def _fragment(self, chunk: FinishedChunk, *, key_frame: bool) -> bytes:
        data = io.BytesIO()
        options = {**_MUXER_OPTIONS, "fragment_index": str(chunk.number + 1)}
        with av.open(data, "w", format="mp4", container_options=options) as muxer:
            stream = muxer.add_stream_from_template(self._stream, opaque=True)
            stream.time_base = self._form.tick_s
            for frame in range(len(chunk.frames)):
                packet = self._packet(chunk, frame, key_frame=key_frame and frame == 0)
                packet.stream = stream
                muxer.mux(packet)
        init, fragment = split_init(data.getvalue())
        assert init == self._init, "a fragment's muxer wrote another init segment than the stream's"
        return fragment

    def _packet(self, chunk: FinishedChunk, frame: int, *, key_frame: bool) -> Packet[VideoStream]:
        picture = self._pictures.of(chunk.frames[frame])
        picture.pts = self._form.frame_ticks(chunk.number, frame)
        picture.time_base = self._form.tick_s
        picture.pict_type = PictureType.I if key_frame else PictureType.NONE
        packets = self._stream.codec_context.encode(picture)
        if len(packets) != 1 or packets[0].pts != picture.pts or packets[0].is_keyframe != key_frame:
            raise EncoderError(f"{CODEC} kept or reordered a frame of chunk {chunk.number}, or chose its own key frame")
        packets[0].duration = self._form.rate.denominator  # the last one's too, which nothing else would say
        return packets[0]


def bits_per_s_max(form: Form) -> int:
    """What a stream takes at most, but for one second's worth in advance."""
    pixels_per_s = form.width * form.height * form.scale**2 * form.rate
    return max(BITS_PER_S_MAX_LEAST, int(pixels_per_s * Fraction(BITS_PER_PIXEL_MAX)))


def _opened(form: Form) -> tuple[VideoStream, bytes]:
    """An encoder, and the init segment of what it will encode."""
    data = io.BytesIO()
    with av.open(data, "w", format="mp4", container_options=dict(_MUXER_OPTIONS)) as muxer:
        peak = str(bits_per_s_max(form))
        options = {**_CODEC_OPTIONS, "maxrate": peak, "bufsize": peak}
        stream = muxer.add_stream(CODEC, rate=form.rate, options=options)
        assert isinstance(stream, VideoStream)
        context = stream.codec_context
        context.width, context.height = form.width * form.scale, form.height * form.scale
        context.pix_fmt = "yuv420p"
        context.time_base = stream.time_base = form.tick_s
        context.thread_count = 1
        context.max_b_frames = 0
        context.flags |= Flags.bitexact
        context.colorspace, context.color_range = _BT709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        muxer.start_encoding()
        return stream, data.getvalue()  # the muxer writes nothing more that counts; the encoder stays open
