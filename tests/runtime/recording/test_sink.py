"""The file of a log: whole lines, bounded, one writer, and nothing that can go wrong with a disk reaches the loop."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.recording.events import Event, SessionEnded, WorkerJoined, of_line, to_line
from runtime.recording.runs import read_runs
from runtime.recording.sink import SPARE_BYTES, Sink
from tests.runtime.recording.recorded import RecordedController
from traces.errors import BadInputError

PATIENCE_S = 60.0


def until(there: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def joined(number: int) -> WorkerJoined:
    return WorkerJoined(t_s=float(number), worker="w", incarnation=number)


def events_of(path: Path) -> list[Event]:
    return [of_line(line) for line in path.read_bytes().splitlines()]


def began() -> Event:
    return of_line(RecordedController().log.splitlines()[0])


def test_lines_are_appended_in_order_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for part in range(3):
        sink = Sink(path)
        sink.put([began(), *map(joined, range(100 * part))])
        sink.put([joined(100 * part)])
        sink.close()
    numbers = [event.incarnation for event in events_of(path) if isinstance(event, WorkerJoined)]
    assert numbers == [*range(1), *range(101), *range(201)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_line_that_was_cut_off_is_taken_away_before_others_follow(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first, torn = to_line(began()), to_line(joined(1))
    for size in range(len(torn)):
        path.write_bytes(first + torn[:size])
        sink = Sink(path)
        sink.put([joined(2)])
        sink.close()
        assert path.read_bytes() == first + to_line(joined(2))
    for size in (1, 10, len(first) - 1):  # and so is a first one
        path.write_bytes(first[:size])
        Sink(path).close()
        assert path.read_bytes() == b""


def test_other_files_and_files_of_another_writer_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    for content in (b"no log\n", b"no log", b'{"kind":"session_ended","t_s":0.0,"session_id":"s"}\n'):
        other.write_bytes(content)
        with pytest.raises(BadInputError, match=r"notes\.txt:1: is no epochal\.events/1"):
            Sink(other)
        assert other.read_bytes() == content
    with pytest.raises(BadInputError, match="cannot be recorded to: Is a directory"):
        Sink(tmp_path)
    sink = Sink(tmp_path / "events.jsonl")
    with pytest.raises(BadInputError, match="another controller records to it"):
        Sink(tmp_path / "events.jsonl")
    sink.close()
    Sink(tmp_path / "events.jsonl").close()


def test_a_full_disk_ends_the_recording_and_says_so_once() -> None:
    sink = Sink(Path("/dev/full"))
    sink.put([joined(1)])
    sink.close()
    sink.put([joined(2)])
    assert [*sink.news(), *sink.news()] == [
        "nothing is recorded in full any more: No space left on device; make room, and restart the controller to "
        "record again"
    ]


def test_a_file_ends_at_its_bound_with_a_line_that_says_so(tmp_path: Path) -> None:
    path, bytes_max = tmp_path / "events.jsonl", 4096
    sink = Sink(path, bytes_max=bytes_max)
    sink.put([began()])
    for number in range(100):
        sink.put([joined(number)])
    sink.close()
    size = path.stat().st_size
    assert bytes_max - SPARE_BYTES - 100 < size <= bytes_max
    (run,) = read_runs(path)
    assert run.complete
    assert b'"reason":"too large"' in path.read_bytes().splitlines()[-1]
    assert len(sink.news()) == 1
    again = Sink(path, bytes_max=size)  # the next controller leaves it as it is
    again.put([began()])
    again.close()
    assert path.stat().st_size == size
    assert len(again.news()) == 1


def test_whoever_records_does_not_wait_for_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "slow"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = Sink(path, waiting_bytes_max=1 << 18)
    line_bytes = len(to_line(SessionEnded(t_s=1.0, session_id="s")))
    for _ in range(1 + (1 << 20) // line_bytes):  # far more than a pipe and the bound hold
        sink.put([SessionEnded(t_s=1.0, session_id="s")])
    assert sink.news() == []  # it still waits for the disk
    taken = bytearray()

    def read() -> None:
        os.set_blocking(reading, True)
        while part := os.read(reading, 1 << 16):
            taken.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: bool(sink.news()))
    sink.close()
    reader.join(PATIENCE_S)
    os.close(reading)
    assert len(taken) < 1 << 19
    assert b'"reason":"too slow"' in taken.splitlines()[-1]
