"""needed.parquet: rows that say how many GPUs every schedule must have on.

Decides whether each row is true and what all of them prove together; must never know what the plan claims to be bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scheduler.verify.case import Case
from scheduler.verify.content_rules import ContentRules
from scheduler.verify.covering import covering_epochs
from scheduler.verify.sweep import EXAMPLES_MAX, Floats, Ints, examples, microseconds
from solvers.needed_cost import least_cost

_TOLERANCE = 1e-6  # of a weight, as in the file's definition


@dataclass(frozen=True, slots=True, kw_only=True)
class NeededRows:
    """The rows as arrays of shapes (rows,), (rows, profiles) and (rows, types)."""

    epoch: Ints
    at_us: Ints
    weights: Floats
    type_weights: Floats


def needed_rows(case: Case) -> tuple[NeededRows | None, list[str]]:
    """The rows, or why they cannot be read as such."""
    table = case.plan.needed
    findings: list[str] = []
    for name, width in (("weights", len(case.fleet.profiles)), ("type_weights", len(case.fleet.gpu_types))):
        lengths = table[name].list.len().to_numpy()
        findings += examples(lengths != width, _tells(f"{name} must have {width} entries"))
    if findings:
        return None, findings
    rows = NeededRows(
        epoch=table["epoch"].to_numpy().astype(np.int64),
        at_us=microseconds(table["at_s"]),
        weights=_matrix(table["weights"].to_list(), len(case.fleet.profiles)),
        type_weights=_matrix(table["type_weights"].to_list(), len(case.fleet.gpu_types)),
    )
    sane = np.isfinite(table["at_s"].to_numpy())
    findings += examples(~sane, _tells("at_s must be a finite number"))
    for name, matrix in (("weights", rows.weights), ("type_weights", rows.type_weights)):
        right = np.isfinite(matrix).all(axis=1) & (matrix.min(axis=1, initial=0.0) >= 0)
        findings += examples(~right, _tells(f"{name} must be finite and >= 0"))
    start = rows.epoch * case.epoch_us
    outside = (
        (rows.at_us < start) | (rows.at_us >= start + case.epoch_us) | (rows.epoch < 0) | (start >= case.horizon_us)
    )
    findings += examples(
        outside, lambda i: f"needed.parquet: row {i}: at_s={rows.at_us[i] / 1e6:g} must lie in epoch {rows.epoch[i]}"
    )
    return (None if findings else rows), findings


def contents_exceed(case: Case, rows: NeededRows, rules: ContentRules) -> Iterator[str]:
    """Rows whose claim about contents is false: some feasible content weighs more than the row allows."""
    if not rows.epoch.size:
        return
    claims, first = np.unique(np.hstack([rows.weights, rows.type_weights]), axis=0, return_index=True)
    weights, limits = np.split(claims, [rows.weights.shape[1]], axis=1)
    heavy = np.flatnonzero((weights > 0).any(axis=0))  # a session without weight is never needed to weigh more
    for type_index, name in enumerate(case.fleet.gpu_types):
        contents = rules.maximal(type_index, heavy)
        if contents is None:
            best = np.array([rules.weight_limit(type_index, each) for each in weights])
            verb = "could not be checked: its contents are too many to enumerate, and might weigh"
        else:
            best = _heaviest(weights, contents)
            verb = f"is false: a {name} can hold"
        over = np.flatnonzero(best > limits[:, type_index] + _TOLERANCE)
        told = [f"weight {best[i]:.9g}, the row says at most {limits[i, type_index]:.9g}" for i in over[:EXAMPLES_MAX]]
        yield from (f"needed.parquet: row {first[i]} {verb} {text}" for i, text in zip(over, told, strict=False))


def proven_dollars(case: Case, rows: NeededRows, claimed: float) -> float | None:
    """What the rows prove: every schedule without unserved or late time costs at least this; None: nothing.

    With several GPU types the linear relaxation is tried first, and whole GPUs only where it falls short of `claimed`.
    """
    fleet, epochs = case.fleet, math.ceil(case.horizon_us / case.epoch_us)
    sides = (rows.weights * _demand_at(case, rows.at_us)).sum(axis=1)
    kinds = list(fleet.gpu_types.values())
    start_epochs = [round(kind.startup_s * 1e6) // case.epoch_us for kind in kinds]
    epoch_dollars = [kind.price_per_hour * case.epoch_us / 3.6e9 for kind in kinds]
    before = _on_before(case)
    sunk = _sunk_dollars(case)
    low = [sum(pool.gpus_min for pool in fleet.pools if pool.gpu_type == name) for name in fleet.gpu_types]
    if len(kinds) == 1:
        weight = rows.type_weights[:, 0]
        quotient = np.divide(sides, weight, out=np.zeros_like(sides), where=weight > 0)
        need = np.full(epochs, low[0], dtype=np.int64)
        np.maximum.at(need, rows.epoch, np.ceil(quotient - 1e-9).astype(np.int64))
        paid = covering_epochs(np.concatenate([[before[0]], need]), start_epochs[0]) - before[0] * (1 + start_epochs[0])
        return sunk + paid * epoch_dollars[0]
    size = [sum(p.nodes * p.gpus_per_node for p in fleet.pools if p.gpu_type == name) for name in fleet.gpu_types]

    def bound(*, whole: bool) -> float | None:
        return least_cost(
            epochs=epochs,
            epoch_cost=np.array(epoch_dollars),
            start_cost=np.array(epoch_dollars) * start_epochs,
            low=np.array(low, dtype=np.float64),
            high=np.array(size, dtype=np.float64),
            before=np.array(before, dtype=np.float64),
            row_epoch=rows.epoch,
            row_weights=rows.type_weights,
            row_side=sides,
            whole=whole,
        )[0]

    relaxed = bound(whole=False)
    if relaxed is not None and claimed <= (relaxed + sunk) * (1 + 1e-6) + 1e-9:
        return relaxed + sunk
    proven = [value + sunk for value in (relaxed, bound(whole=True)) if value is not None]
    return max(proven, default=None)


def _on_before(case: Case) -> list[int]:
    """GPUs per type that were on when a plan from a state began."""
    on = [] if case.plan.state is None else [gpu.gpu_type for gpu in case.plan.state.gpus]
    return [on.count(name) for name in case.fleet.gpu_types]


def _sunk_dollars(case: Case) -> float:
    """What those GPUs had cost by time 0."""
    on = [] if case.plan.state is None else case.plan.state.gpus
    return sum(-gpu.on_s / 3600 * case.fleet.gpu_types[gpu.gpu_type].price_per_hour for gpu in on)


def _demand_at(case: Case, at_us: Ints) -> Floats:
    """Active sessions per profile at each instant; periods are half-open."""
    demand = case.demand
    profile = demand.profile[demand.session]
    result = np.zeros((at_us.size, len(case.fleet.profiles)))
    for index in range(result.shape[1]):
        begun = np.sort(demand.start_us[profile == index])
        ended = np.sort(demand.end_us[profile == index])
        result[:, index] = np.searchsorted(begun, at_us, "right") - np.searchsorted(ended, at_us, "right")
    return result


def _heaviest(weights: Floats, contents: Ints) -> Floats:
    best = np.zeros(len(weights))
    step = max(1, 10_000_000 // max(len(weights), 1))
    for begin in range(0, len(contents), step):
        np.maximum(best, (weights @ contents[begin : begin + step].T).max(axis=1, initial=0.0), out=best)
    return best


def _tells(fact: str) -> Callable[[int], str]:
    return lambda row: f"needed.parquet: row {row}: {fact}"


def _matrix(values: list[list[float]], width: int) -> Floats:
    return np.array(values, dtype=np.float64).reshape(len(values), width)
