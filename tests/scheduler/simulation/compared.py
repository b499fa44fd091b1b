"""Two outcomes side by side: where they differ by a microsecond or more.

Decides what counts as equal; must never know which of the two is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from scheduler.cluster import Snapshot
from scheduler.plan import Decision
from scheduler.policy import Budget, Policy
from scheduler.simulation.outcome import Outcome

TABLES = ("periods", "stays", "moves", "gpus", "epochs", "decisions", "latencies")
MEASURED = {"planning_ms", "seconds"}  # differs from run to run


@dataclass(slots=True)
class Witness:
    """A policy that does as another one and remembers what it was asked."""

    policy: Policy
    asked: list[tuple[float, Budget, Snapshot]] = field(default_factory=list)

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        self.asked.append((now_s, budget, snapshot))
        return self.policy.step(snapshot, now_s, budget)


def differences(one: Outcome, other: Outcome) -> Iterator[str]:
    """In words, table by table; nothing where both are equal."""
    for name in TABLES:
        yield from _of_tables(name, getattr(one.tables, name), getattr(other.tables, name))
    ours, theirs = one.summary.to_json(), other.summary.to_json()
    for key in ours:
        if key != "timing" and not _is_equal(ours[key], theirs[key]):
            yield f"summary {key}: {ours[key]} and {theirs[key]}"


def differences_asked(one: Witness, other: Witness) -> Iterator[str]:
    """The first step at which two policies were asked for something else."""
    for index, (ours, theirs) in enumerate(zip(one.asked, other.asked, strict=False)):
        if ours != theirs:
            yield f"step {index}: {ours[:2]} and {theirs[:2]}"
            for name in ("gpus", "sessions", "moves", "history", "version"):
                mine, its = getattr(ours[2], name), getattr(theirs[2], name)
                if mine != its:
                    yield f"step {index} at {ours[0]}: {name} are {mine} and {its}"
            return
    if len(one.asked) != len(other.asked):
        yield f"{len(one.asked)} steps and {len(other.asked)}"


def _of_tables(name: str, one: pl.DataFrame, other: pl.DataFrame) -> Iterator[str]:
    if one.schema != other.schema:
        yield f"{name}: schemas {one.schema} and {other.schema}"
        return
    columns = [column for column in one.columns if column not in MEASURED]
    ours, theirs = one.select(columns).rows(), other.select(columns).rows()
    if len(ours) != len(theirs):
        yield f"{name}: {len(ours)} rows and {len(theirs)}"
    for index, (mine, its) in enumerate(zip(ours, theirs, strict=False)):
        shown = [
            f"{column} {a} and {b}" for column, a, b in zip(columns, mine, its, strict=True) if not _is_equal(a, b)
        ]
        if shown:
            yield f"{name} row {index} ({mine[0]}): {', '.join(shown)}"
            return


def _is_equal(one: Any, other: Any) -> bool:
    """Only the last digits of a float do not matter: sums may be taken in any order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-9)
    return bool(one == other)
