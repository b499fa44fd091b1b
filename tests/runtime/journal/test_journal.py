"""What was appended is there again, whatever happened to the process, the disk or the file."""

from __future__ import annotations

import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from runtime.journal import journal as module
from runtime.journal.journal import BrokenJournalError, Journal, SupersededError
from runtime.journal.records import Began, Joined
from runtime.journal.rules import ContradictionError, after
from runtime.journal.truth import Truth, truth_to_bytes
from tests.runtime.journal.records import a_session, lives


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


def written(path: Path, count: int, seed: int = 1) -> Truth:
    journal = Journal.open(path)
    for record in islice(lives(seed, journal.truth), count):
        journal.append([record])
    journal.close()
    return journal.truth


def test_the_next_controller_knows_what_this_one_decided(path: Path) -> None:
    before = written(path, 120)
    journal = Journal.open(path)
    assert journal.controller_epoch == before.controller_epoch + 1 == 2
    assert truth_to_bytes(journal.truth) == truth_to_bytes(after(before, [Began(controller_epoch=2)]))


def test_only_its_owner_can_read_it(path: Path) -> None:
    written(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_all_records_of_a_decision_are_written_or_none(path: Path) -> None:
    journal = Journal.open(path)
    before = journal.truth
    with pytest.raises(ContradictionError):
        journal.append([a_session("s"), a_session("s")])
    assert journal.truth == before
    journal.append([a_session("s")])
    journal.close()
    assert set(Journal.open(path).truth.sessions) == {"s"}


def test_whoever_was_superseded_writes_nothing_more(path: Path) -> None:
    older = Journal.open(path)
    newer = Journal.open(path)
    for _ in range(2):
        with pytest.raises(SupersededError, match="another controller"):
            older.append([a_session("late")])
    with pytest.raises(SupersededError):
        older.demand_hold()
    newer.demand_hold()
    newer.append([a_session("s")])
    newer.close()
    assert set(Journal.open(path).truth.sessions) == {"s"}


def test_the_past_is_folded_and_nothing_is_forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD_AFTER", 25)
    before = written(path, 200)
    with sqlite3.connect(path) as connection:
        (records,) = connection.execute("SELECT count(*) FROM record").fetchone()
    assert records <= 25
    journal = Journal.open(path)
    assert truth_to_bytes(journal.truth) == truth_to_bytes(after(before, [Began(controller_epoch=2)]))
    journal.append([a_session("one more")])


_CHANGES = {
    "UPDATE record SET body = (SELECT body FROM record WHERE position = 9) WHERE position = 8": 7,
    "UPDATE record SET digest = zeroblob(32) WHERE position = 5": 4,
    "DELETE FROM record WHERE position = 12": 11,
    "DELETE FROM record WHERE position > 14": 14,
    "UPDATE record SET position = 99 WHERE position = 3": 2,
    "UPDATE head SET epoch = 7": 31,
    "DELETE FROM head": 31,
}


@pytest.mark.parametrize(("change", "last_good"), list(_CHANGES.items()))
def test_a_file_that_was_changed_is_refused_with_the_last_good_record(path: Path, change: str, last_good: int) -> None:
    written(path, 30)
    with sqlite3.connect(path) as connection:
        connection.execute(change)
    with pytest.raises(BrokenJournalError, match=f"last good record is {last_good}:"):
        Journal.open(path)


def test_a_folded_past_that_was_changed_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOLD_AFTER", 10)
    written(path, 30)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE past SET truth = CAST(substr(truth, 2) AS BLOB)")
    with pytest.raises(BrokenJournalError, match="folded past"):
        Journal.open(path)


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_and_torn_files_are_refused_or_change_nothing(path: Path, seed: int) -> None:
    before = written(path, 60)
    body, chance = bytearray(path.read_bytes()), random.Random(seed)
    if seed % 3 == 0:
        del body[chance.randrange(1, len(body)) :]
    else:
        for _ in range(4):
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    path.write_bytes(body)
    try:
        found = Journal.open(path).truth
    except BrokenJournalError:
        return
    assert truth_to_bytes(found) == truth_to_bytes(after(before, [Began(controller_epoch=2)]))


def test_other_files_are_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(BrokenJournalError, match="no journal of ours"):
        Journal.open(path)
    path.write_bytes(b"this is a text, and quite a long one" * 200)
    before = path.read_bytes()
    with pytest.raises(BrokenJournalError):
        Journal.open(path)
    assert path.read_bytes() == before


def test_another_format_is_refused(path: Path) -> None:
    written(path, 1)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(BrokenJournalError, match="format 2 is not 1"):
        Journal.open(path)


_WRITER = """
import sys
from itertools import islice
from pathlib import Path
from runtime.journal.journal import Journal
from tests.runtime.journal.records import lives
journal = Journal.open(Path(sys.argv[1]))
for number, record in enumerate(lives(int(sys.argv[2]), journal.truth)):
    journal.append([record])
    print(number + 1, flush=True)
"""


def told_before_the_kill(path: Path, seed: int) -> int:
    """How many records a process had said to be written when it was killed at a random moment."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path), str(seed)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(random.Random(seed).uniform(0.0, 0.3))
        writer.send_signal(signal.SIGKILL)
        return [1, *(int(line) for line in writer.stdout.read().split())][-1]


@pytest.mark.parametrize("seed", range(4))
def test_what_was_told_as_written_survives_a_kill(path: Path, seed: int) -> None:
    expected, controllers = Truth(), 0
    for life in range(3):
        told = told_before_the_kill(path, seed * 10 + life)
        controllers += 1
        expected = after(expected, [Began(controller_epoch=controllers)])
        records = list(islice(lives(seed * 10 + life, expected), told + 1))
        candidates = [after(expected, records[:told]), after(expected, records)]  # the last may be there untold
        controllers += 1
        journal = Journal.open(path)
        found = journal.truth
        journal.close()
        ends = [after(each, [Began(controller_epoch=controllers)]) for each in candidates]
        assert found in ends
        expected = found


_FILLER = """
import resource, signal, sys
from pathlib import Path
from runtime.journal.journal import Journal, JournalFullError
from runtime.journal.records import Joined
from tests.runtime.journal.records import a_session
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal.open(Path(sys.argv[1]))
journal.append([Joined(worker="w", incarnation=1)])
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
written = refused = 0
while refused < 3:
    try:
        journal.append([a_session(f"s{written}", prompt="x" * 4000)])
        written += 1
    except JournalFullError as error:
        refused += 1
        print(error, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append([a_session("after")])
print(written)
"""


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(path: Path) -> None:
    filler = subprocess.run(
        [sys.executable, "-c", _FILLER, str(path), str(400_000)], capture_output=True, text=True, timeout=60, check=True
    )
    written_count = int(filler.stdout)
    assert written_count > 10
    assert filler.stderr.count("until the disk has room") == 3
    assert set(Journal.open(path).truth.sessions) == {*(f"s{number}" for number in range(written_count)), "after"}


def test_a_decision_of_thousands_is_quick_enough_to_restart(path: Path) -> None:
    journal = Journal.open(path)
    journal.append([Joined(worker="w", incarnation=1), *(a_session(f"s{number}") for number in range(10_000))])
    journal.close()
    begun_s = time.monotonic()
    assert len(Journal.open(path).truth.sessions) == 10_000
    assert time.monotonic() - begun_s < 5.0
