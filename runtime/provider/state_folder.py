"""What runs, written down: a small file for each worker in a folder that one provider holds.

Decides what is written and when it can be trusted; must never know how a process is started or what it does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

import msgspec
from msgspec import Meta, Struct

from runtime.transfer.messages import UNREADABLE
from scheduler.cluster import GpuId
from traces.errors import BadInputError

RECORD_BYTES_MAX = 1 << 16
_LOCK = "lock"

_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Word = Annotated[str, Meta(max_length=256)]


class WorkerRecord(Struct, frozen=True, kw_only=True):
    """One worker's process. Written before it is started, so that none runs of which nobody knows."""

    format: Literal["epochal.worker-process/1"] = "epochal.worker-process/1"
    gpu_id: Annotated[str, Meta(min_length=1, max_length=200)]
    worker: _Word
    mark: Annotated[str, Meta(min_length=16, max_length=256)]  # in its environment
    command: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=256)]
    pid: Annotated[int, Meta(ge=1)] | None = None  # None: it was about to be started
    birth: _Word = ""
    incarnation: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    stopping: bool = False  # it was asked to end


_DECODER = msgspec.json.Decoder(WorkerRecord)


class StateFolder:
    """Held by one provider at a time. Nothing here knows of threads: call it from one at a time."""

    def __init__(self, path: Path, lock: int) -> None:
        self._path, self._lock = path, lock

    @classmethod
    def open(cls, path: Path) -> StateFolder:
        """Make it if it is not there, and take hold of it. Raises `BadInputError` if another process has."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
                os.close(lock)
                raise BadInputError.of(
                    str(path), f"is held by {holder}: stop that one first, or name another folder"
                ) from None
            if _is_still(path / _LOCK, lock):
                break
            os.close(lock)  # whoever had it has just let go, and removed it
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} ({Path(sys.argv[0]).name or 'python'})\n".encode(), 0)
        return cls(path, lock)

    def close(self) -> None:
        (self._path / _LOCK).unlink(missing_ok=True)
        os.close(self._lock)

    def log_path(self, gpu_id: GpuId) -> Path:
        return self._path / f"{_file_name(gpu_id)}.log"

    def write(self, record: WorkerRecord) -> None:
        """All of it or nothing, durable on return. Raises `OSError`."""
        path = self._record_path(GpuId(record.gpu_id))
        made = path.with_suffix(".new")
        try:
            file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(file, "wb") as out:
                out.write(msgspec.json.encode(record))
                out.flush()
                os.fsync(file)
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)

    def remove(self, gpu_id: GpuId) -> None:
        self._record_path(gpu_id).unlink(missing_ok=True)

    def records(self) -> tuple[WorkerRecord, ...]:
        """Of whatever provider held the folder before. Raises `BadInputError` for what is none."""
        for unfinished in self._path.glob("*.new"):
            unfinished.unlink(missing_ok=True)
        return tuple(self._read(path) for path in sorted(self._path.glob("*.worker")))

    def _read(self, path: Path) -> WorkerRecord:
        with path.open("rb") as file:
            body = file.read(RECORD_BYTES_MAX + 1)
        try:
            record = _DECODER.decode(body)
        except UNREADABLE as error:
            raise BadInputError.of(
                str(path), f"must be a record of a worker ({error}): if no worker of that GPU runs, remove the file"
            ) from None
        if path != self._record_path(GpuId(record.gpu_id)):
            raise BadInputError.of(str(path), f"must be named after its GPU {record.gpu_id}: move it or remove it")
        return record

    def _record_path(self, gpu_id: GpuId) -> Path:
        return self._path / f"{_file_name(gpu_id)}.worker"


def _file_name(gpu_id: GpuId) -> str:
    """Any id, as a name without a folder in it; never one of a hidden file."""
    return quote(gpu_id, safe="").replace(".", "%2E")


def _is_still(path: Path, opened: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(opened))
    return False
