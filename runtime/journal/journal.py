"""The file in which a controller's decisions are durable before they take effect.

Decides when a record is safe, who may still write, and whether a file can be trusted; must never know what a record
means beyond the rules that it obeys. One SQLite file in WAL mode, synchronised at every commit. Every record's digest
covers that of the record before it, so that a file of which anything was changed, lost or cut off is told apart from
a whole one. The past is folded into one row now and then: the file stays as small as the present.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runtime.journal.records import Began, Record, of_bytes, to_bytes
from runtime.journal.rules import ContradictionError, after
from runtime.journal.truth import Truth, truth_of_bytes, truth_to_bytes

APPLICATION_ID = 0x45706F63  # "Epoc"
FORMAT = 1
FOLD_AFTER = 20_000  # records beyond the folded past
BUSY_S = 5.0  # for another controller's transaction
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
CREATE TABLE past (one INTEGER PRIMARY KEY CHECK (one = 0), position INTEGER, truth BLOB, digest BLOB) STRICT;
CREATE TABLE record (position INTEGER PRIMARY KEY, body BLOB NOT NULL, digest BLOB NOT NULL) STRICT;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 0), position INTEGER, digest BLOB, epoch INTEGER) STRICT;
"""
_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


class JournalError(RuntimeError):
    """Nothing was written."""


class SupersededError(JournalError):
    """A newer controller has taken over: whoever gets this must have no effect any more, and ends."""


class JournalFullError(JournalError):
    """There is no room on the disk; what was decided before still holds, and a later attempt may succeed."""


class BrokenJournalError(JournalError):
    """The file cannot be trusted; the text names the last record that can be."""


@dataclass(frozen=True, slots=True)
class _Link:
    """Where the chain of digests stands."""

    position: int
    digest: bytes

    def next(self, body: bytes) -> _Link:
        position = self.position + 1
        return _Link(position, hashlib.sha256(self.digest + position.to_bytes(8, "big") + body).digest())


class Journal:
    """One controller's hold on the file. Used from one thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection, truth: Truth, link: _Link, records: int) -> None:
        self._path, self._connection = path, connection
        self._truth, self._link, self._records = truth, link, records

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Check the whole file and take over from whoever wrote it; a new one is made where there is none.

        Raises `BrokenJournalError` and `JournalFullError`.
        """
        with _told(path):
            connection = _connected(path)
            try:
                truth, link, records = _read(path, connection)
                journal = cls(path, connection, truth, link, records)
                journal.append([Began(controller_epoch=truth.controller_epoch + 1)])
            except BaseException:
                connection.close()
                raise
        return journal

    @property
    def truth(self) -> Truth:
        """What is durable."""
        return self._truth

    @property
    def controller_epoch(self) -> int:
        return self._truth.controller_epoch

    def append(self, records: Sequence[Record]) -> Truth:
        """All of them or none, durable on return.

        Raises `ContradictionError`, `SupersededError` and `JournalFullError`.
        """
        truth, link = after(self._truth, records), self._link
        rows = []
        for body in map(to_bytes, records):
            link = link.next(body)
            rows.append((link.position, body, link.digest))
        with _told(self._path), self._transaction():
            self._connection.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
            self._connection.execute(
                "UPDATE head SET position = ?, digest = ?, epoch = ?",
                (link.position, link.digest, truth.controller_epoch),
            )
        self._truth, self._link, self._records = truth, link, self._records + len(rows)
        if self._records > FOLD_AFTER:
            self._fold()
        return truth

    def demand_hold(self) -> None:
        """Raises `SupersededError`: who has not written for a while asks before it lets workers go on."""
        with _told(self._path):
            found = self._connection.execute("SELECT position, digest FROM head").fetchone()
        if found != (self._link.position, self._link.digest):
            raise SupersededError(f"{self._path}: another controller has written since record {self._link.position}")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begun only if nobody has written since; rolled back if anything fails."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self.demand_hold()
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _fold(self) -> None:
        """Put the present in the place of the past. A disk without room for that may have some later."""
        body = truth_to_bytes(self._truth)
        digest = _digest_of_past(self._link, body)
        try:
            with _told(self._path), self._transaction():
                self._connection.execute("DELETE FROM record")
                self._connection.execute(
                    "INSERT OR REPLACE INTO past VALUES (0, ?, ?, ?)", (self._link.position, body, digest)
                )
                self._connection.execute("UPDATE head SET digest = ?", (digest,))
        except JournalFullError:
            return
        self._link, self._records = _Link(self._link.position, digest), 0


def _digest_of_past(link: _Link, body: bytes) -> bytes:
    return hashlib.sha256(b"past" + link.position.to_bytes(8, "big") + body).digest()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
        if code in _FULL:
            raise JournalFullError(f"{path}: {error}: nothing new is decided until the disk has room") from None
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise BrokenJournalError(f"{path}: {error}: restore it from a copy, or start with a new journal") from None
        if code == sqlite3.SQLITE_BUSY:
            raise JournalError(f"{path}: another process has been writing for {BUSY_S:g} s") from None
        raise JournalError(f"{path}: {error}") from None


def _connected(path: Path) -> sqlite3.Connection:
    """Readable for its owner only: prompts are in it."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            _make(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection) -> None:
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)
    first = _first()
    connection.execute("INSERT INTO head VALUES (0, ?, ?, 0)", (first.position, first.digest))


def _first() -> _Link:
    return _Link(0, hashlib.sha256(b"epochal journal").digest())


def _read(path: Path, connection: sqlite3.Connection) -> tuple[Truth, _Link, int]:
    """Every record, checked; raises `BrokenJournalError` with the last good position."""
    _check_kind(path, connection)
    truth, link = _past(path, connection)
    records: list[Record] = []
    with closing(connection.execute("SELECT position, body, digest FROM record ORDER BY position")) as rows:
        try:
            for position, body, digest in rows:
                following = link.next(body)
                if (position, digest) != (following.position, following.digest):
                    raise _broken(path, link, f"record {position} does not follow it")
                records.append(of_bytes(body))
                link = following
            truth = after(truth, records)
        except (sqlite3.DatabaseError, msgspec.MsgspecError, ContradictionError) as error:
            raise _broken(path, link, str(error)) from None
    head = connection.execute("SELECT position, digest, epoch FROM head").fetchone()
    if head != (link.position, link.digest, truth.controller_epoch):
        raise _broken(path, link, "records after it are missing")
    return truth, link, len(records)


def _past(path: Path, connection: sqlite3.Connection) -> tuple[Truth, _Link]:
    found = connection.execute("SELECT position, truth, digest FROM past").fetchone()
    if found is None:
        return Truth(), _first()
    position, body, digest = found
    link = _Link(position, digest)
    if digest != _digest_of_past(link, body):
        raise _broken(path, _Link(0, b""), "the folded past was changed")
    return truth_of_bytes(body), link


def _check_kind(path: Path, connection: sqlite3.Connection) -> None:
    (kind,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if kind != APPLICATION_ID:
        raise BrokenJournalError(f"{path}: this is no journal of ours: name another file")
    if version != FORMAT:
        raise BrokenJournalError(f"{path}: format {version} is not {FORMAT}: use the version of epochal that wrote it")


def _broken(path: Path, link: _Link, why: str) -> BrokenJournalError:
    return BrokenJournalError(
        f"{path}: the last good record is {link.position}: {why}; restore the file from a copy, or start with a new one"
    )
