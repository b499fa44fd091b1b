"""Motion JPEG becomes a file that players read, over lineages, and while it grows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from runtime.encode.boxes import BadBoxesError
from runtime.encode.chunk import EncodedChunk
from runtime.encode.mjpeg_file import MjpegFile
from runtime.encode.mp4_file import OtherStreamError
from scheduler.cluster import SessionId
from tests.runtime.client.films import FRAMES, FRAMES_PER_S, SIDE, a_film


def chunks(count: int) -> list[EncodedChunk]:
    film = a_film("mjpeg")
    return [
        EncodedChunk(
            session_id=SessionId("s"),
            lineage=0,
            number=number,
            kind="mjpeg",
            init=None,
            body=film(number, False)[0],
            key_frame=True,
        )
        for number in range(count)
    ]


def times_of(path: Path) -> list[float]:
    with av.open(path, "r", format="mp4") as film:
        frames = list(film.decode(video=0))
    assert {(frame.width, frame.height) for frame in frames} == {(SIDE, SIDE)}
    return [round(frame.time * FRAMES_PER_S, 3) for frame in frames if frame.time is not None]


def test_chunks_become_a_film_from_its_beginning_over_lineages(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    file, made = MjpegFile(path), chunks(9)
    assert all(file.append(made[number]) for number in (5, 6))
    assert not file.append(made[6])
    assert file.append(made[8])
    assert file.append(replace(made[0], lineage=1, number=9))
    (growing,) = tmp_path.iterdir()
    seen = times_of(growing)
    file.close()
    file.close()
    wanted = [*range(2 * FRAMES), *range(3 * FRAMES, 5 * FRAMES)]
    assert times_of(path) == wanted
    assert seen == wanted[: len(seen)]
    assert len(seen) >= len(wanted) - FRAMES, "it is playable while it grows"
    assert (file.chunks, list(tmp_path.iterdir())) == (4, [path])


def test_what_does_not_belong_is_refused_and_nothing_leaves_nothing(tmp_path: Path) -> None:
    file = MjpegFile(tmp_path / "film.mp4")
    (made,) = chunks(1)
    with pytest.raises(OtherStreamError):
        file.append(replace(made, kind="h264"))
    for body in (b"", b"--frame", made.body[:-9], made.body.replace(b"\xff\xc0", b"\xff\x00")):
        with pytest.raises(BadBoxesError):
            file.append(replace(made, body=body))
    file.close()
    assert list(tmp_path.iterdir()) == []
