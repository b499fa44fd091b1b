"""Placements: who is served when, by which GPU, and who moves.

Decides unserved time, migrations, their costs and budgets; must never know chunk latencies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scheduler.verify.case import Case
from scheduler.verify.sweep import Ints, examples, last_at_or_before, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Migrations in the order of sessions; `row` is the placement that begins with one."""

    row: Ints
    at_us: Ints
    source: Ints  # GPU indexes
    target: Ints
    profile: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the placements add up to."""

    findings: tuple[str, ...]
    unserved_us: Ints  # per period
    moves: Moves
    move_dollars: float

    def unserved_by_priority(self, case: Case) -> dict[int, float]:
        """Session-seconds, highest priority first; priorities that are served in full are left out."""
        priority = case.demand.priority[case.demand.session]
        found = {int(p): float(self.unserved_us[priority == p].sum() / 1e6) for p in np.unique(priority)}
        return {p: found[p] for p in sorted(found, reverse=True) if found[p]}


def service_of(case: Case) -> Service:
    """Check every placement and add them up."""
    placed, demand = case.placed, case.demand
    period = last_at_or_before(demand.session, demand.start_us, placed.session, placed.start_us)
    length = placed.end_us - placed.start_us
    inside = (
        (period >= 0) & (placed.end_us <= demand.end_us[np.maximum(period, 0)]) if demand.session.size else period >= 0
    )
    served = np.zeros(demand.session.size, dtype=np.int64)
    np.add.at(served, period[inside], np.maximum(length[inside], 0))
    span = last_at_or_before(case.gpus.gpu, case.gpus.usable_us, placed.gpu, placed.start_us)
    moves = _moves(case, period)
    findings = [
        *_rows_are_right(case, inside),
        *_rows_do_not_overlap(case),
        *_gpus_are_usable(case, span),
        *_moves_are_on_epochs(case, moves, span),
        *_budgets_hold(case, moves),
    ]
    return Service(
        findings=tuple(findings),
        unserved_us=np.maximum(demand.end_us - demand.start_us - served, 0),
        moves=moves,
        move_dollars=_move_dollars(case, moves),
    )


def _row(case: Case, i: int) -> str:
    placed = case.placed
    name = case.session_name(placed.session[i])
    return f"{name} on {case.gpu_name(placed.gpu[i])} [{seconds(placed.start_us[i])}, {seconds(placed.end_us[i])})"


def _rows_are_right(case: Case, inside: np.ndarray) -> Iterator[str]:
    reversed_ = case.placed.end_us <= case.placed.start_us
    yield from examples(reversed_, lambda i: f"{_row(case, i)} must have start_s < end_s")
    yield from examples(~inside & ~reversed_, lambda i: f"{_row(case, i)} leaves its session's active periods")


def _rows_do_not_overlap(case: Case) -> Iterator[str]:
    placed = case.placed
    same = placed.session[1:] == placed.session[:-1]
    overlap = np.flatnonzero(same & (placed.start_us[1:] < placed.end_us[:-1])) + 1
    yield from examples(overlap, lambda i: f"{_row(case, i)} begins before the session's placement before it ends")


def _gpus_are_usable(case: Case, span: Ints) -> Iterator[str]:
    if not case.gpus.gpu.size:
        return
    known = np.maximum(span, 0)
    useless = (span < 0) | (case.placed.end_us > case.gpus.off_us[known])
    yield from examples(useless, lambda i: f"{_row(case, i)}: the GPU is not usable all that time")


def _moves(case: Case, period: Ints) -> Moves:
    """A change of GPU inside a period, also after an unserved gap."""
    placed = case.placed
    same = (placed.session[1:] == placed.session[:-1]) & (period[1:] == period[:-1]) & (period[1:] >= 0)
    row = np.flatnonzero(same & (placed.gpu[1:] != placed.gpu[:-1])) + 1
    return Moves(
        row=row,
        at_us=placed.start_us[row],
        source=placed.gpu[row - 1],
        target=placed.gpu[row],
        profile=case.profile_of_row[row],
    )


def _moves_are_on_epochs(case: Case, moves: Moves, span: Ints) -> Iterator[str]:
    crooked = moves.row[moves.at_us % case.epoch_us != 0]
    yield from examples(
        crooked, lambda i: f"{_row(case, i)}: migrates off the epoch boundaries, epoch_s={case.fleet.epoch_s:g}"
    )
    left = span[moves.row - 1]
    gone = moves.row[(left >= 0) & (case.gpus.off_us[np.maximum(left, 0)] < moves.at_us)] if left.size else left
    yield from examples(gone, lambda i: f"{_row(case, i)}: migrates from a GPU that was switched off before")


def _budgets_hold(case: Case, moves: Moves) -> Iterator[str]:
    budget = case.fleet.budget
    many = len(case.gpus.ids) + 1
    at, index = np.unique(moves.at_us, return_inverse=True)
    limits = (
        ("moves_per_epoch", budget.moves_per_epoch, index, 1),
        ("moves_out_per_gpu", budget.moves_out_per_gpu, index * many + moves.source, many),
        ("moves_in_per_gpu", budget.moves_in_per_gpu, index * many + moves.target, many),
    )
    for name, limit, group, width in limits:
        if limit is None or not group.size:
            continue
        values, counts = np.unique(group, return_counts=True)
        worst = int(np.argmax(counts))
        if counts[worst] > limit:
            where = "" if width == 1 else f" at {case.gpu_name(values[worst] % width)}"
            when = seconds(at[values[worst] // width])
            yield f"budget {name}={limit}: the plan makes {counts[worst]} moves{where} at {when}"
    if budget.gib_per_epoch is not None and at.size and case.profiles_known:
        state = np.array([profile.state_gib for profile in case.fleet.profiles.values()])
        moved = np.bincount(index, weights=state[moves.profile])
        worst = int(np.argmax(moved))
        if moved[worst] > budget.gib_per_epoch + 1e-6:
            when = seconds(at[worst])
            yield f"budget gib_per_epoch={budget.gib_per_epoch:g}: the plan moves {moved[worst]:.6g} GiB at {when}"


def _move_dollars(case: Case, moves: Moves) -> float:
    """Each migration costs its transfer time at the price of its target."""
    if not moves.row.size or not case.profiles_known:
        return 0.0
    links, types = case.fleet.links, list(case.fleet.gpu_types.values())
    nodes = {node: index for index, node in enumerate(dict.fromkeys(case.gpus.node))}
    node = np.array([nodes[name] for name in case.gpus.node], dtype=np.int64)
    near = node[moves.source] == node[moves.target]
    bandwidth = np.where(near, links.device_device_gb_s, links.node_node_gb_s) * 1e9
    state = np.array([profile.state_gib for profile in case.fleet.profiles.values()])[moves.profile] * 2.0**30
    price = np.array([kind.price_per_hour for kind in types])[case.gpus.type_index[moves.target]]
    return float(((links.latency_ms / 1000 + state / bandwidth) / 3600 * price).sum())
