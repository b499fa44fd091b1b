"""Clients can append what they get of each chunk to what they have, and see the session's pictures at their times."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import replace

import av
import numpy as np
import pytest

from runtime.encode.boxes import BadBoxesError, boxes, codec_string, fragment_times, split_init
from runtime.encode.chunk import KINDS, NUMBER_MAX, Form, Kind, RefusedError, refusal_of
from runtime.encode.h264 import bits_per_s_max
from runtime.encode.kinds import kinds_here, open_encoder, refusal_of_kind
from runtime.encode.mjpeg import Part, part_of, parts_of
from runtime.encode.picture import VIDEO, Pictures
from tests.runtime.encode.builders import COLOURS, FRAMES, a_chunk, encoded, joined, seen

SIZES = [(32, 32, 1), (48, 48, 1), (32, 32, 4), (17, 31, 2), (832, 480, 1)]
COLOUR_ERROR_MAX = 6.0  # of 255, in the middle of a coloured area


@pytest.mark.parametrize(("width", "height", "scale"), SIZES)
def test_a_chunk_is_playable_when_it_has_arrived(width: int, height: int, scale: int) -> None:
    made = encoded([a_chunk(number, width=width, height=height, scale=scale) for number in range(3)])
    assert [chunk.init is not None for chunk in made] == [True, False, False]
    assert [chunk.key_frame for chunk in made] == [True, False, False]
    for count in (1, 2, 3):
        shown = seen(joined(made[:count]))
        assert [frame.index for frame in shown] == list(range(count * FRAMES))
        assert [frame.time_s for frame in shown] == [index / 16 for index in range(count * FRAMES)]
        assert {frame.size for frame in shown} == {(width * scale, height * scale)}


def test_a_chunk_is_one_fragment_and_the_init_segment_is_not_repeated() -> None:
    made = encoded([a_chunk(number) for number in range(2)])
    assert made[0].init is not None
    assert [box.kind for box in boxes(made[0].init)] == ["ftyp", "moov"]
    assert [[box.kind for box in boxes(chunk.body)] for chunk in made] == [["moof", "mdat"]] * 2
    assert codec_string(made[0].init).startswith("avc1.64")  # High profile


def test_no_frame_is_held_back_or_reordered() -> None:
    made = encoded([a_chunk(number) for number in range(2)])
    with av.open(io.BytesIO(joined(made)), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == 2 * FRAMES
    assert all(packet.pts == packet.dts for packet in packets)


@pytest.mark.parametrize("kind", KINDS)
def test_colours_are_those_of_the_source(kind: Kind) -> None:
    chunk = a_chunk(5, width=64, height=64, kind=kind)
    made = encoded([chunk])
    shown = seen(joined(made)) if kind == "h264" else seen(parts_of(made[0].body)[0].jpeg, format_name="jpeg_pipe")
    for at, colour in enumerate(COLOURS):
        middle = shown[0].rgb[44:56, at * 16 + 6 : at * 16 + 10].reshape(-1, 3).astype(float)
        assert np.abs(middle - colour).max() <= COLOUR_ERROR_MAX


def test_scaling_repeats_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)
    large = Pictures(VIDEO, 4).of(frame).to_ndarray()[: 6 * 4]  # luma
    squares = large.reshape(6, 4, 10, 4)
    assert (squares == squares[:, :1, :, :1]).all()
    assert len(np.unique(squares[:, 0, :, 0])) > 30


@pytest.mark.parametrize(
    ("frames_per_s", "frame_s"), [(16.0, 1 / 16), (24.0, 1 / 24), (29.97, 100 / 2997), (30000 / 1001, 1001 / 30000)]
)
def test_time_stamps_follow_from_the_chunk_number_alone(frames_per_s: float, frame_s: float) -> None:
    for number in (7, 100_000, NUMBER_MAX):
        made = encoded([a_chunk(number, frames_per_s=frames_per_s)])
        ticks = fragment_times(made[0].body)
        assert made[0].init is not None
        with av.open(io.BytesIO(joined(made)), "r") as container:
            tick_s = container.streams.video[0].time_base
        assert tick_s is not None
        assert float(ticks.start * tick_s) == pytest.approx(number * FRAMES * frame_s, rel=1e-12)
        assert float(ticks.duration * tick_s) == pytest.approx(FRAMES * frame_s, rel=1e-12)


def test_a_chunk_may_be_one_frame() -> None:
    made = encoded([a_chunk(number, frames=1) for number in range(3)])
    times = [fragment_times(chunk.body) for chunk in made]
    assert [time.start for time in times] == [number * times[0].duration for number in range(3)]
    assert [frame.time_s for frame in seen(joined(made))] == [number / 16 for number in range(3)]


def test_a_new_encoder_goes_on_where_another_has_stopped() -> None:
    here = encoded([a_chunk(number) for number in range(3)])
    there = encoded([a_chunk(number) for number in range(3, 5)])
    assert there[0].key_frame
    assert there[0].init == here[0].init
    without_second_init = joined(here) + b"".join(chunk.body for chunk in there)
    shown = seen(without_second_init)
    assert [frame.index for frame in shown] == list(range(5 * FRAMES))
    assert [frame.time_s for frame in shown] == [index / 16 for index in range(5 * FRAMES)]
    assert [index for index, frame in enumerate(shown) if frame.key_frame] == [0, 3 * FRAMES]


def test_noise_takes_no_more_than_the_peak_rate() -> None:
    rng = np.random.default_rng(0)
    chunks = [a_chunk(number, width=640, height=384) for number in range(8)]
    noise = [replace(chunk, frames=rng.integers(0, 256, chunk.frames.shape, dtype=np.uint8)) for chunk in chunks]
    bits = [8 * len(made.body) for made in encoded(noise)]
    most = bits_per_s_max(chunks[0].form)
    seconds = len(chunks) * FRAMES / 16
    assert sum(bits) <= 1.1 * most * (seconds + 1)
    assert sum(bits) >= 0.8 * most * seconds  # the pictures are hard enough to find out


def test_whoever_comes_late_begins_at_a_key_frame() -> None:
    made = encoded([a_chunk(number) for number in range(4)], keys=(2,))
    assert [chunk.key_frame for chunk in made] == [True, False, True, False]
    assert made[0].init is not None
    shown = seen(made[0].init + made[2].body + made[3].body)
    assert [frame.index for frame in shown] == list(range(2 * FRAMES, 4 * FRAMES))
    assert shown[0].time_s == 2 * FRAMES / 16


def test_chunks_that_no_encoder_got_leave_a_hole_in_time_and_nothing_else() -> None:
    made = encoded([a_chunk(0), a_chunk(3)])
    shown = seen(joined(made))
    assert [frame.index for frame in shown] == [*range(FRAMES), *range(3 * FRAMES, 4 * FRAMES)]
    assert shown[FRAMES].time_s == 3 * FRAMES / 16


@pytest.mark.parametrize("kind", KINDS)
def test_equal_chunks_give_equal_bytes_in_any_process(kind: Kind) -> None:
    made = joined(encoded([a_chunk(number, width=96, height=64, kind=kind) for number in range(4)], keys=(2,)))
    other = (
        "import hashlib; from tests.runtime.encode.builders import a_chunk, encoded, joined; "
        f"chunks = [a_chunk(number, width=96, height=64, kind={kind!r}) for number in range(4)]; "
        "print(hashlib.sha256(joined(encoded(chunks, keys=(2,)))).hexdigest())"
    )
    digest = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=True).stdout.strip()
    assert digest == hashlib.sha256(made).hexdigest()


def test_jpeg_frames_are_parts_with_length_and_time() -> None:
    made = encoded([a_chunk(number, kind="mjpeg", width=48, height=32) for number in (4, 5)])
    assert [chunk.init for chunk in made] == [None, None]
    assert all(chunk.key_frame for chunk in made)
    parts = parts_of(joined(made))
    assert [part.time_s for part in parts] == [index / 16 for index in range(4 * FRAMES, 6 * FRAMES)]
    shown = [seen(part.jpeg, format_name="jpeg_pipe")[0] for part in parts]
    assert [frame.index for frame in shown] == list(range(4 * FRAMES, 6 * FRAMES))
    assert {frame.size for frame in shown} == {(48, 32)}


def test_a_body_that_was_cut_is_not_read_as_whole() -> None:
    part = part_of(Part(time_s=1.5, jpeg=b"picture"))
    assert parts_of(part) == (Part(time_s=1.5, jpeg=b"picture"),)
    for cut in range(1, len(part)):
        with pytest.raises(ValueError, match="byte 0"):
            parts_of(part[:cut])


def test_a_fragment_that_was_cut_is_not_read_as_whole() -> None:
    made = encoded([a_chunk(0)])[0]
    assert made.init is not None
    for cut in range(len(made.body)):
        with pytest.raises(BadBoxesError):
            fragment_times(made.body[:cut])
    for cut in range(len(made.init)):
        with pytest.raises(BadBoxesError):
            split_init(made.init[:cut])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"width": 33}, "width=33 times scale=1 must be even, as 4:2:0 video is; scale=2 is"),
        ({"height": 500, "scale": 10}, "height=500 times scale=10 must be >= 2 and <= 4096"),
        ({"scale": 0}, "scale=0 must be a whole number"),
        ({"frames_per_s": 0.5}, "frames_per_s=0.5 must be >= 1"),
        ({"frames_per_s": float("nan")}, "frames_per_s=nan must be >= 1"),
        ({"frames": 300, "width": 8, "height": 8}, "frames=300 must be >= 1 and <= 256"),
        ({"kind": "gif"}, "kind=gif must be one of h264, mjpeg"),
    ],
)
def test_pictures_that_cannot_be_encoded_are_refused_with_the_fix(wrong: dict[str, object], text: str) -> None:
    chunk = a_chunk(0, **wrong)  # type: ignore[arg-type]
    assert text in str(refusal_of(chunk))
    with pytest.raises(RefusedError, match=text.split(";")[0].split("*")[0]):
        open_encoder(chunk.form)


def test_both_kinds_are_in_this_installation_and_a_missing_one_is_named_with_those_that_are_there() -> None:
    assert kinds_here() == KINDS
    assert refusal_of_kind("h264", KINDS) is None
    refusal = refusal_of_kind("h264", ["mjpeg"])
    assert refusal == "kind=h264 needs the encoder libx264, which this build of libav lacks; it can do: mjpeg"


def test_frames_of_another_form_never_reach_an_encoder() -> None:
    encoder = open_encoder(Form(kind="h264", width=32, height=32, frames=FRAMES, frames_per_s=16.0, scale=1))
    with pytest.raises(AssertionError, match="width=48"):
        encoder.encode(a_chunk(0, width=48), key_frame=False)
