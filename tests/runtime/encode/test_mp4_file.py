"""A session's chunks become a file that players read from its begin to its end, whatever happened on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.encode.boxes import BadBoxesError, boxes
from runtime.encode.chunk import EncodedChunk, FinishedChunk
from runtime.encode.mp4_file import Mp4File, OtherStreamError
from tests.runtime.encode.builders import FRAMES, Seen, a_chunk, encoded, seen


def by_workers(
    *numbers: range, lineages: tuple[int, ...] = (), size: tuple[int, int] = (32, 32), scale: int = 1
) -> list[EncodedChunk]:
    """Each range by an encoder of its own."""
    made: list[EncodedChunk] = []
    for at, span in enumerate(numbers):
        lineage = lineages[at] if lineages else 0
        chunks = [a_chunk(number, lineage=lineage, width=size[0], height=size[1], scale=scale) for number in span]
        made += encoded(chunks)
    return made


def written(path: Path, made: list[EncodedChunk]) -> list[Seen]:
    """What a player sees of the file."""
    with Mp4File(path) as file:
        assert all(file.append(chunk) for chunk in made)
    return seen(path.read_bytes())


def sequence_numbers(video: bytes) -> list[int]:
    """Of all fragments."""
    headers = [
        box
        for moof in boxes(video)
        if moof.kind == "moof"
        for box in boxes(video, moof.inside, moof.end)
        if box.kind == "mfhd"
    ]
    return [int.from_bytes(video[box.inside + 4 : box.end]) for box in headers]


@pytest.mark.parametrize(("width", "height", "scale"), [(32, 32, 1), (48, 48, 4), (832, 480, 1)])
def test_a_moved_session_is_one_playable_file(tmp_path: Path, width: int, height: int, scale: int) -> None:
    path = tmp_path / "session.mp4"
    made = by_workers(range(3), range(3, 5), range(5, 6), size=(width, height), scale=scale)
    shown = written(path, made)
    assert [frame.index for frame in shown] == list(range(6 * FRAMES))
    assert [frame.time_s for frame in shown] == [index / 16 for index in range(6 * FRAMES)]
    assert {frame.size for frame in shown} == {(width * scale, height * scale)}
    assert [at for at, frame in enumerate(shown) if frame.key_frame] == [0, 3 * FRAMES, 5 * FRAMES]
    assert [box.kind for box in boxes(path.read_bytes())] == ["ftyp", "moov", *(["moof", "mdat"] * 6)]
    assert sequence_numbers(path.read_bytes()) == [1, 2, 3, 4, 5, 6]


def test_a_lineage_whose_numbers_begin_anew_follows_on(tmp_path: Path) -> None:
    made = by_workers(range(3), range(2), range(2, 4), lineages=(0, 1, 1))
    path = tmp_path / "session.mp4"
    shown = written(path, made)
    assert sequence_numbers(path.read_bytes()) == [1, 2, 3, 4, 5, 6, 7]
    assert [frame.index for frame in shown] == [*range(3 * FRAMES), *range(4 * FRAMES)]
    assert [frame.time_s for frame in shown] == [index / 16 for index in range(7 * FRAMES)]
    assert [at for at, frame in enumerate(shown) if frame.key_frame] == [0, 3 * FRAMES, 5 * FRAMES]


def test_a_lineage_whose_numbers_go_on_keeps_its_times(tmp_path: Path) -> None:
    made = by_workers(range(2), range(4, 5), lineages=(0, 1))
    shown = written(tmp_path / "session.mp4", made)
    assert [frame.time_s for frame in shown][2 * FRAMES :] == [index / 16 for index in range(4 * FRAMES, 5 * FRAMES)]


def test_a_file_begins_at_0_with_the_first_chunk_that_can_be_decoded(tmp_path: Path) -> None:
    before = encoded([a_chunk(number) for number in range(5)])
    path = tmp_path / "session.mp4"
    with Mp4File(path) as file:
        assert [file.append(chunk) for chunk in before[3:]] == [False, False]
        assert [file.append(chunk) for chunk in by_workers(range(5, 7))] == [True, True]
        assert file.chunks == 2
    shown = seen(path.read_bytes())
    assert [frame.index for frame in shown] == list(range(5 * FRAMES, 7 * FRAMES))
    assert [frame.time_s for frame in shown] == [index / 16 for index in range(2 * FRAMES)]


def test_chunks_that_come_twice_or_late_are_not_written_again(tmp_path: Path) -> None:
    made = by_workers(range(2), range(2, 3))
    path = tmp_path / "session.mp4"
    with Mp4File(path) as file:
        order = [made[0], made[0], made[2], made[1], made[2]]
        assert [file.append(chunk) for chunk in order] == [True, False, True, False, False]
    assert [frame.index for frame in seen(path.read_bytes())] == [*range(FRAMES), *range(2 * FRAMES, 3 * FRAMES)]


def test_the_file_is_playable_while_it_grows_and_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "session.mp4"
    with Mp4File(path) as file:
        for count, chunk in enumerate(by_workers(range(3)), start=1):
            file.append(chunk)
            assert not path.exists()
            (growing,) = tmp_path.iterdir()
            assert len(seen(growing.read_bytes())) == count * FRAMES
    assert list(tmp_path.iterdir()) == [path]


def test_no_chunks_leave_no_file(tmp_path: Path) -> None:
    with Mp4File(tmp_path / "session.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [a_chunk(1, width=48), a_chunk(1, scale=2), a_chunk(1, frames_per_s=24.0)])
def test_another_stream_needs_another_file(tmp_path: Path, other: FinishedChunk) -> None:
    path = tmp_path / "session.mp4"
    with Mp4File(path) as file:
        file.append(by_workers(range(1))[0])
        with pytest.raises(OtherStreamError, match=r"from chunk 1 of lineage 0 on.*write it to another file"):
            file.append(encoded([other])[0])
        with pytest.raises(OtherStreamError, match="kind=mjpeg must be h264"):
            file.append(encoded([a_chunk(1, kind="mjpeg")])[0])
    assert len(seen(path.read_bytes())) == FRAMES


def test_what_is_no_fragment_is_refused_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "session.mp4"
    made = by_workers(range(2))
    with Mp4File(path) as file:
        file.append(made[0])
        bad = EncodedChunk(
            session_id=made[1].session_id,
            lineage=0,
            number=1,
            kind="h264",
            init=None,
            body=made[1].body[:-1],
            key_frame=False,
        )
        with pytest.raises(BadBoxesError):
            file.append(bad)
        assert file.append(made[1])
    assert [frame.index for frame in seen(path.read_bytes())] == list(range(2 * FRAMES))
