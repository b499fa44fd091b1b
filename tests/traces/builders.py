"""Short ways to say what a trace holds, and to read it back.

Decides names and defaults for tests; must never hide a check that a test is about.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import polars as pl

from traces.assemble import trace_from_periods
from traces.trace import Trace


def a_trace(text: str) -> Trace:
    """`a_trace("A 0-5 A 7-9 b 1-2")`: session, period, session, period, ..."""
    words = text.split()
    times = [word.split("-") for word in words[1::2]]
    return trace_from_periods(
        pl.DataFrame(
            {
                "session_id": words[::2],
                "start_s": [float(start) for start, _ in times],
                "end_s": [float(end) for _, end in times],
            }
        )
    )


def a_file(folder: Path, text: str | bytes, name: str = "trace.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def periods_us(trace: Trace) -> dict[str, list[tuple[int, int]]]:
    """Session id -> its periods in order."""
    out: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ids = trace.sessions["session_id"].gather(trace.periods["session_index"])
    for session, start, end in zip(ids, trace.periods["start_us"], trace.periods["end_us"], strict=True):
        out[session].append((start, end))
    return dict(out)
