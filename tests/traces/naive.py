"""An independent reader of trace rows, one Python object at a time: the oracle of the columnar one.

Decides nothing about errors; must never share code with `traces`.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from pathlib import Path

Periods = dict[str, list[tuple[int, int]]]


def naive_rows(path: Path) -> list[dict[str, object]]:
    """The rows of a CSV or JSONL file, possibly gzipped."""
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
        if ".csv" in path.name:
            return [dict(row) for row in csv.DictReader(stream)]
        return [json.loads(line) for line in stream if line.strip()]


def naive_periods(rows: list[dict[str, object]]) -> Periods:
    """Microseconds of each session's periods, sorted, touching ones joined."""
    sessions: Periods = defaultdict(list)
    for row in rows:
        start, end = (round(round(float(str(row[key])), 6) * 1e6) for key in ("start_s", "end_s"))
        sessions[str(row["session_id"])].append((start, end))
    joined: Periods = {}
    for name, periods in sessions.items():
        out: list[tuple[int, int]] = []
        for start, end in sorted(periods):
            if out and out[-1][1] == start:
                out[-1] = (out[-1][0], end)
            else:
                out.append((start, end))
        joined[name] = out
    return joined
