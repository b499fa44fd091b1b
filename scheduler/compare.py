"""Policies side by side against the offline optimum: which runs there are, and how their figures become rows.

Decides which runs are compared, by which measures, and how seeds are put together; must never know how a run is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import polars as pl

from scheduler.offline_plan import OfflinePlan
from scheduler.simulation.outcome import Outcome, Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a comparison."""

    trace: int  # index of the trace
    policy: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One figure of a run, as a column."""

    name: str
    words: str  # as a heading, with its unit
    of: Callable[[Summary], float]
    digits: int = 0
    scale: float = 1.0  # from the figure to what is shown
    suffix: str = ""

    def shown(self, value: float) -> str:
        return f"{self.scale * value:,.{self.digits}f}{self.suffix}"


MEASURES = (
    Measure(name="gpu_dollars", words="GPU $", of=lambda run: run.gpu_dollars, digits=2),
    Measure(
        name="late_chunk_ratio", words="late", of=lambda run: run.late_chunk_ratio, digits=2, scale=100, suffix=" %"
    ),
    Measure(
        name="late_first_chunk_ratio",
        words="late first",
        of=lambda run: run.late_first_chunk_ratio,
        digits=2,
        scale=100,
        suffix=" %",
    ),
    Measure(name="chunk_latency_ms_p99", words="p99 ms", of=lambda run: run.chunk_latency_ms.p99),
    Measure(name="chunk_latency_ms_max", words="worst ms", of=lambda run: run.chunk_latency_ms.max),
    Measure(name="stall_seconds", words="stall s", of=lambda run: run.stall_seconds, digits=1),
    Measure(name="unserved_session_seconds", words="unserved s", of=lambda run: run.unserved_session_seconds, digits=1),
    Measure(name="migrations", words="migrations", of=lambda run: run.migrations),
    Measure(name="planning_ms_p99", words="planning p99 ms", of=lambda run: run.planning_ms.p99, digits=1),
)
ABOVE_BOUND = Measure(
    name="above_bound_ratio", words="above bound", of=lambda _: 0.0, digits=1, scale=100, suffix=" %"
)  # of `gpu_dollars`, by the trace's bound
COMPARISON: dict[str, type[pl.DataType]] = {
    "trace": pl.String,
    "policy": pl.String,
    "seeds": pl.Int64,
    "bound_dollars": pl.Float64,  # null: no offline plan was made
    "plan_dollars": pl.Float64,
    **{f"{measure.name}{end}": pl.Float64 for measure in (ABOVE_BOUND, *MEASURES) for end in ("", "_min", "_max")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """What the offline planner found on one trace."""

    trace: str
    plan_dollars: float  # of the best schedule found
    bound_dollars: float | None  # no schedule that serves as well costs less
    gap: float
    unserved_session_seconds: float
    late_session_seconds: float
    end_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A cell and what came of it; the tables are those of the first seed only, unless all were wanted."""

    cell: Cell
    summary: Summary
    outcome: Outcome | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Policies x traces x seeds, with the optima of the traces."""

    runs: tuple[Run, ...]
    plans: tuple[OfflinePlan | None, ...] = field(repr=False)  # per trace
    rows: pl.DataFrame  # COMPARISON

    @property
    def summary(self) -> list[dict[str, Any]]:
        """One `epochal.summary/1` per run."""
        return [run.summary.to_json() for run in self.runs]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The comparison, and the frontiers of the optima where they were worked out."""
        frontiers = [
            plan.frontier.with_columns(trace=pl.lit(plan.trace_name))
            for plan in self.plans
            if plan is not None and plan.frontier is not None
        ]
        return {"comparison": self.rows} | ({"frontier": pl.concat(frontiers)} if frontiers else {})

    def to_polars(self) -> dict[str, pl.DataFrame]:
        """Every table by name."""
        return self.tables

    def _repr_html_(self) -> str:
        parts = []
        for trace, lines in table_lines(self.rows).items():
            head = "".join(f"<th>{escape(text)}</th>" for text in ("", *headings()))
            body = "".join(
                f"<tr><th>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
                for name, cells in lines.items()
            )
            parts.append(f"<p>{escape(trace)}</p><table><tr>{head}</tr>{body}</table>")
        return "".join(parts)


def cells(traces: int, policies: Sequence[str], seeds: int) -> tuple[Cell, ...]:
    """Every run: trace by trace, seed by seed, the policies beside each other."""
    return tuple(
        Cell(trace=trace, policy=policy, seed=seed)
        for trace in range(traces)
        for seed in range(seeds)
        for policy in policies
    )


def optimum_of(plan: OfflinePlan) -> Optimum:
    """The figures of an offline plan that a comparison needs."""
    return Optimum(
        trace=plan.trace_name,
        plan_dollars=plan.objective.total_dollars,
        bound_dollars=plan.certificate.bound_dollars,
        gap=plan.gap,
        unserved_session_seconds=plan.objective.unserved_session_seconds,
        late_session_seconds=plan.objective.late_session_seconds,
        end_reason=plan.solver.end_reason,
    )


def compare(runs: Sequence[Run], plans: Sequence[OfflinePlan | None], names: Sequence[str]) -> Comparison:
    """Put runs and optima together; `names` are the traces', in the order of their index."""
    optima = {name: None if plan is None else optimum_of(plan) for name, plan in zip(names, plans, strict=True)}
    by_row: dict[tuple[str, str], list[Summary]] = {}
    for run in runs:
        by_row.setdefault((names[run.cell.trace], run.cell.policy), []).append(run.summary)
    rows = [row_of(trace, policy, found, optima[trace]) for (trace, policy), found in by_row.items()]
    return Comparison(runs=tuple(runs), plans=tuple(plans), rows=pl.DataFrame(rows, schema=COMPARISON))


def row_of(trace: str, policy: str, runs: Sequence[Summary], optimum: Optimum | None) -> dict[str, Any]:
    """Mean, least and largest over seeds of every measure."""
    row: dict[str, Any] = {"trace": trace, "policy": policy, "seeds": len(runs)}
    bound = None if optimum is None else optimum.bound_dollars
    row |= {"bound_dollars": bound, "plan_dollars": None if optimum is None else optimum.plan_dollars}
    for measure in MEASURES:
        row |= _spread(measure.name, [measure.of(run) for run in runs])
    if bound:
        row |= _spread(ABOVE_BOUND.name, [run.gpu_dollars / bound - 1 for run in runs])
    return row


def _spread(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: sum(values) / len(values), f"{name}_min": min(values), f"{name}_max": max(values)}


def headings() -> tuple[str, ...]:
    """Of the columns of `table_lines`."""
    return (MEASURES[0].words, ABOVE_BOUND.words, *(measure.words for measure in MEASURES[1:]))


def table_lines(rows: pl.DataFrame) -> dict[str, dict[str, list[str]]]:
    """Trace -> line -> cells: the bound and the offline plan first, then the policies by dollars.

    A cell is the mean over seeds, with half of the range where it varies.
    """
    tables: dict[str, dict[str, list[str]]] = {}
    for row in rows.sort("gpu_dollars", maintain_order=True).iter_rows(named=True):
        lines = tables.setdefault(row["trace"], _optimum_lines(row))
        measures = (MEASURES[0], ABOVE_BOUND, *MEASURES[1:])
        lines[row["policy"]] = [_cell(row, measure) for measure in measures]
    return {trace: tables[trace] for trace in rows["trace"].unique(maintain_order=True)}


def _optimum_lines(row: Mapping[str, Any]) -> dict[str, list[str]]:
    blank = [""] * (len(MEASURES) - 1)
    lines = {}
    if row["bound_dollars"] is not None:
        lines["bound (offline)"] = [MEASURES[0].shown(row["bound_dollars"]), "", *blank]
    if row["plan_dollars"] is not None:
        bound = row["bound_dollars"]
        above = ABOVE_BOUND.shown(row["plan_dollars"] / bound - 1) if bound else ""
        lines["optimum (offline plan)"] = [MEASURES[0].shown(row["plan_dollars"]), above, *blank]
    return lines


def _cell(row: Mapping[str, Any], measure: Measure) -> str:
    value = row[measure.name]
    if value is None:
        return "-"
    half = (row[f"{measure.name}_max"] - row[f"{measure.name}_min"]) / 2
    spread = f" ±{measure.scale * half:,.{measure.digits}f}" if row["seeds"] > 1 and half > 0 else ""
    return f"{measure.shown(value).removesuffix(measure.suffix)}{spread}{measure.suffix}"


def is_short(run: Summary) -> bool:
    """Somebody was late or unserved for so long that it counts (first chunks say how long somebody waited)."""
    return run.late_chunk_ratio > 0 or run.late_first_chunk_ratio > 0
