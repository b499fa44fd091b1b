"""Mooncake: one hour of production chat requests whose prefix hashes tell which of them continue one another.

Decides which requests make a session; must never know users, for the set names none.
Source: github.com/kvcache-ai/Mooncake, FAST25-release/traces/conversation_trace.jsonl.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from traces.assemble import microseconds, trace_from_periods
from traces.demand import Ints
from traces.errors import BadInputError
from traces.importers.mapping import RequestMapping, periods_from_requests
from traces.importers.rawfile import raw_bytes
from traces.trace import Trace

_SHARED_REQUESTS_MAX = 50  # a block in more requests than this is a shared prompt, not a conversation
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "timestamp": pl.Int64,
    "output_length": pl.Int64,
    "hash_ids": pl.List(pl.Int64),
}


def mooncake_trace(path: Path, mapping: RequestMapping | None = None) -> Trace:
    """Sessions linked by prefix hashes, active while their output tokens are made."""
    mapping = mapping or RequestMapping()
    rows = _rows(path)
    chain = link_requests(rows["hash_ids"].to_list())
    start = rows["timestamp"].to_numpy() / 1e3
    end = start + rows["output_length"].to_numpy() * mapping.token_s
    session, start_us, end_us = periods_from_requests(chain, microseconds(start), microseconds(end), mapping)
    ids = pl.Series("session_id", session).cast(pl.String).str.zfill(len(str(session[-1])))
    order = np.lexsort((session, start_us))
    table = pl.DataFrame([ids, pl.Series("start_s", start_us / 1e6), pl.Series("end_s", end_us / 1e6)])[order]
    return trace_from_periods(table.filter(pl.col("end_s") > pl.col("start_s")), name=path.name)


def link_requests(hash_ids: Sequence[Sequence[int]]) -> Ints:
    """The number of the conversation of each request, in the order of time.

    A hash names a whole prefix. A request continues the latest earlier one whose last full block (the last but one: the
    last is partly filled) is among its own; blocks of many requests are shared prompts and link nothing.
    """
    uses = Counter(block for blocks in hash_ids for block in set(blocks))
    latest: dict[int, int] = {}  # last full block -> the latest request that ended there
    conversation: list[int] = []
    fresh = 0
    for request, blocks in enumerate(hash_ids):
        earlier = [latest[block] for block in blocks if block in latest]
        if earlier:
            conversation.append(conversation[max(earlier)])
        else:
            conversation.append(fresh)
            fresh += 1
        if len(blocks) > 1 and uses[blocks[-2]] <= _SHARED_REQUESTS_MAX:
            latest[blocks[-2]] = request
    return np.array(conversation, dtype=np.int64)


def _rows(path: Path) -> pl.DataFrame:
    source = str(path)
    try:
        rows = pl.read_ndjson(io.BytesIO(raw_bytes(path)), schema=_SCHEMA)
    except pl.exceptions.PolarsError as error:
        raise BadInputError.of(
            source, f"file must hold one JSON object per line: {str(error).splitlines()[0]}"
        ) from error
    if not rows.height:
        raise BadInputError.of(source, "rows=0 must be at least 1")
    for name in _SCHEMA:
        if rows[name].null_count():
            line = int(rows[name].is_null().arg_max() or 0) + 1
            raise BadInputError.of(source, f"{name}= must be given, as in Mooncake's conversation trace", line)
    return rows.sort("timestamp", maintain_order=True)
