"""More or fewer sessions of the same kind: a trace with its arrivals multiplied.

Decides which sessions are kept or come again, and when; must never know what a session costs.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

from traces.assemble import trace_from_periods
from traces.demand import SECOND_US
from traces.encode import trace_table
from traces.errors import BadInputError
from traces.trace import Trace

SHIFT_S_MAX = 300.0
SESSIONS_MAX = 5_000_000


def scale_arrivals(trace: Trace, factor: float, *, seed: int = 0, shift_s_max: float = SHIFT_S_MAX) -> Trace:
    """Every session `factor` times on average: kept, dropped, or come again under another name.

    With factor 2.5 each session is there twice, and half of them, drawn with the seed, three times. One that comes
    again keeps its body (periods and pauses), its profile, tenant and priority; it is shifted by a time drawn evenly
    within `shift_s_max` before or after, as far as it stays between 0 and the horizon. Those that are there at factor 1
    stay where they are. Raises `BadInputError` for a factor that makes no sense or leaves nobody.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise BadInputError.of("arrivals", f"factor={factor:g} must be > 0 and finite")
    count = trace.session_count
    if count * factor > SESSIONS_MAX:
        raise BadInputError.of("arrivals", f"factor={factor:g} makes over {SESSIONS_MAX:,} sessions; it must be less")
    rng = np.random.default_rng(seed)
    whole, rest = divmod(factor, 1.0)
    more = np.zeros(count, np.int64)
    more[rng.permutation(count)[: round(rest * count)]] = 1
    copies = int(whole) + more
    if not copies.any():
        raise BadInputError.of("arrivals", f"factor={factor:g} leaves none of {count} sessions; it must be larger")
    table = trace_table(trace.sessions, trace.periods)
    spans = table.group_by("session_id", maintain_order=True).agg(pl.col("start_s").min(), pl.col("end_s").max())
    horizon_s = trace.horizon_us / SECOND_US
    taken = set(spans["session_id"])
    order = trace.sessions["session_id"].to_list()
    span_of = {row[0]: row[1:] for row in spans.iter_rows()}
    rows: list[tuple[str, str, float]] = []
    for session_id, times in zip(order, copies.tolist(), strict=True):
        start_s, end_s = span_of[session_id]
        for number in range(times):
            low, high = max(-shift_s_max, -start_s), min(shift_s_max, horizon_s - end_s)
            shift_s = round(float(rng.uniform(low, high)), 6) if number else 0.0
            rows.append((session_id, _name(session_id, number, taken), shift_s))
    drawn = pl.DataFrame(rows, schema={"session_id": pl.String, "name": pl.String, "shift_s": pl.Float64}, orient="row")
    made = drawn.join(table, on="session_id", how="inner", maintain_order="left").with_columns(
        session_id=pl.col("name"),
        start_s=(pl.col("start_s") + pl.col("shift_s")).clip(lower_bound=0.0),
        end_s=pl.col("end_s") + pl.col("shift_s"),
    )
    return trace_from_periods(made.select(table.columns).sort("start_s"), name=f"{trace.name} x {factor:g}")


def _name(session_id: str, number: int, taken: set[str]) -> str:
    """The session's own name, then `name+1`, `name+2`, passing over names that the trace has."""
    if number == 0:
        return session_id
    name = f"{session_id}+{number}"
    while name in taken:
        name += "+"
    taken.add(name)
    return name
