"""A trace: what users demanded, as sessions and their active periods.

Decides what a valid trace is; must never know GPUs, costs or how a file is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

SESSIONS_SCHEMA: dict[str, type[pl.DataType]] = {
    "session_id": pl.String,
    "profile": pl.String,  # null: the fleet's default profile
    "tenant": pl.String,  # null: none given
    "priority": pl.Int32,
}
PERIODS_SCHEMA: dict[str, type[pl.DataType]] = {
    "session_index": pl.UInt32,  # row of `sessions`
    "start_us": pl.Int64,
    "end_us": pl.Int64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Active periods [start_us, end_us) of sessions, whole microseconds since the start of the trace.

    `sessions` has one row per session, in the order of their first start (ties by session id). `periods` is sorted by
    (start_us, session_index); those of one session neither overlap nor touch.
    """

    name: str  # the file's name, for messages and reports
    sha256: str  # of the file's bytes; of the canonical CSV where there is no file
    sessions: pl.DataFrame = field(repr=False)  # SESSIONS_SCHEMA
    periods: pl.DataFrame = field(repr=False)  # PERIODS_SCHEMA
    warnings: tuple[str, ...] = ()  # what was mended on reading, with counts

    @property
    def session_count(self) -> int:
        return self.sessions.height

    @property
    def period_count(self) -> int:
        return self.periods.height

    @property
    def horizon_us(self) -> int:
        """The end of the last period."""
        last = self.periods["end_us"].max()
        assert isinstance(last, int), "a trace has at least one period"
        return last
