"""Pictures come out of chunks of every kind as they went in, also where a chunk goes on from the one before."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.encode.chunk import KINDS, Kind
from runtime.encode.decoding import Decoder, UndecodableError, scaled
from tests.runtime.client.films import FRAMES, SIDE, a_film

SHAPE = (FRAMES, SIDE, SIDE)
CODECS = {"h264": "avc1.640015", "mjpeg": "mjpeg"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_chunk_gives_its_pictures(kind: Kind) -> None:
    film, decoder = a_film(kind), Decoder()
    for number in range(12):
        body, init = film(number, number == 0)
        pictures = decoder.pictures(CODECS[kind], init or b"", body, SHAPE)
        assert len(pictures) == FRAMES
        small = scaled(pictures[-1], 8, 6)
        assert small.shape == (6, 8, 3)
        assert np.abs(small.astype(int) - number * 8).max() <= 3, f"chunk {number}"


def test_raw_chunks_are_taken_as_they_are_and_what_is_none_is_told() -> None:
    raw = np.arange(FRAMES * SIDE * SIDE * 3, dtype=np.uint64).astype(np.uint8).reshape(*SHAPE, 3)
    pictures = Decoder().pictures("raw", b"", raw.tobytes(), SHAPE)
    assert all((scaled(found, SIDE, SIDE) == wanted).all() for found, wanted in zip(pictures, raw, strict=True))
    for codec, body in (("raw", b"short"), ("mjpeg", b"none"), ("avc1.640015", b"none")):
        with pytest.raises(UndecodableError):
            Decoder().pictures(codec, b"", body, SHAPE)
