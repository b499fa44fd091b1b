"""Traces that a command reads.

Decides that warnings about them go to stderr; must never know what a trace is used for.
"""

from __future__ import annotations

import sys
from pathlib import Path

from traces.store import read_trace
from traces.trace import Trace


def read_with_warnings(path: Path, *, quiet: bool) -> Trace:
    """The trace in a file, with what was mended in it told unless `quiet`."""
    trace = read_trace(path)
    if not quiet:
        for warning in trace.warnings:
            print(f"{path}: {warning}", file=sys.stderr)
    return trace
