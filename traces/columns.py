"""The columns of a trace table and their order.

Decides which columns a trace may have; must never know their values.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from traces.errors import Finding

REQUIRED = ("session_id", "start_s", "end_s")
OPTIONAL = ("profile", "tenant", "priority")
COLUMNS = REQUIRED + OPTIONAL


def column_findings(names: Sequence[str], source: str, line: int | None) -> list[Finding]:
    """What is wrong with a table's header: missing, repeated and unknown columns."""
    found = [
        f"column={column} must be present; the columns here are {_listed(names)}"
        for column in REQUIRED
        if column not in names
    ]
    found += [
        f"column={name} must appear once, not {count} times" for name, count in Counter(names).items() if count > 1
    ]
    found += [unknown_column(name) for name in dict.fromkeys(names) if name not in COLUMNS]
    return [Finding(source=source, line=line, message=message) for message in found]


def unknown_column(name: str) -> str:
    """The message for a column that no trace has, with the nearest one that it may have."""
    near = difflib.get_close_matches(name.strip().lower(), COLUMNS, n=1, cutoff=0.4)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"column={name!r} must be one of {', '.join(COLUMNS)}{hint}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return (shown or "none") + (", ..." if len(names) > 8 else "")
