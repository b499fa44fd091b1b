"""Traces in files: CSV, JSONL (both also gzipped) and Parquet, told by the ending.

Decides which ending is which format, and that a file is either old or whole; must never know what a valid period is.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Callable
from gzip import BadGzipFile, GzipFile
from pathlib import Path

import polars as pl

from traces.assemble import assemble
from traces.decode import Rows, decode_csv, decode_jsonl, decode_parquet
from traces.encode import csv_bytes, gzip_bytes, jsonl_bytes, parquet_bytes, trace_table
from traces.errors import BadInputError
from traces.trace import Trace

TEXT_BYTES_MAX = 4 << 30  # of a file after decompression
ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")

_Decode = Callable[[bytes, str], Rows]
_DECODERS: dict[str, _Decode] = {".csv": decode_csv, ".jsonl": decode_jsonl, ".parquet": decode_parquet}
_ENCODERS: dict[str, Callable[[pl.DataFrame], bytes]] = {
    ".csv": csv_bytes,
    ".jsonl": jsonl_bytes,
    ".parquet": parquet_bytes,
}


def read_trace(path: Path) -> Trace:
    """The trace in a file; `sha256` is of the file's bytes.

    Raises `BadInputError` with the first findings and their total: for what cannot be read, and for what is no trace.
    """
    source = str(path)
    ending = _ending(path)
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if ending.endswith(".gz"):
        data = gunzip(data, source)
    kind = ending.removesuffix(".gz")
    rows = _DECODERS[kind](data, source)
    del data
    header = 1 if kind == ".csv" else None
    return assemble(rows, name=path.name, source=source, header_line=header, sha256=digest)


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace in the format of the path's ending; equal traces give equal bytes.

    The file appears whole or not at all. Raises `BadInputError` for an unknown ending, `OSError` where writing fails.
    """
    ending = _ending(path)
    data = _ENCODERS[ending.removesuffix(".gz")](trace_table(trace.sessions, trace.periods))
    write_bytes(path, gzip_bytes(data) if ending.endswith(".gz") else data)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that a user named; raises `BadInputError` where there is none to be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"path={path} must be a readable file: {error.strerror or error}"
        raise BadInputError.of(str(path), message) from error


def gunzip(data: bytes, source: str) -> bytes:
    """Decompressed; raises `BadInputError` where it is damaged or larger than `TEXT_BYTES_MAX`."""
    try:
        with GzipFile(fileobj=io.BytesIO(data)) as stream:
            text = stream.read(TEXT_BYTES_MAX + 1)
    except (BadGzipFile, EOFError, zlib.error) as error:
        raise BadInputError.of(source, f"file must be whole gzip data: {error}") from error
    if len(text) > TEXT_BYTES_MAX:
        raise BadInputError.of(source, f"size must be at most {TEXT_BYTES_MAX} bytes when decompressed")
    return text


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file at once: written beside it under a temporary name, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _ending(path: Path) -> str:
    name = path.name.lower()
    for ending in sorted(ENDINGS, key=len, reverse=True):
        if name.endswith(ending):
            return ending
    message = f"ending={''.join(path.suffixes) or 'none'} must be one of {', '.join(ENDINGS)}"
    raise BadInputError.of(str(path), message)
