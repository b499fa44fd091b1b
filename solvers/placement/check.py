"""The executable specification: which placements are allowed, and what each is worth.

Decides feasibility and value for everybody (tests, solvers, planner); must never know how a placement was found.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from solvers.placement.problem import NEVER_US, IntArray, Problem
from solvers.placement.solution import Placement, Value


def violations(problem: Problem, placement: Placement) -> list[str]:
    """Every rule that a placement breaks, in words; empty if it is allowed."""
    shape = problem.running.shape
    parts = {"out": placement.out, "arrived": placement.arrived, "placed": placement.placed}
    wrong = [f"{name} has shape {part.shape}, not {shape}" for name, part in parts.items() if part.shape != shape]
    wrong = wrong or [
        f"{name} must be whole numbers >= 0"
        for name, part in parts.items()
        if not np.issubdtype(part.dtype, np.integer) or (part < 0).any()
    ]
    if wrong:
        return wrong
    return [
        *_sessions_are_kept(problem, placement),
        *_only_receivers_receive(problem, placement),
        *_budgets_hold(problem, placement),
        *_states_fit(problem, placement),
        *_batches_may_run(problem, placement),
    ]


def _sessions_are_kept(problem: Problem, placement: Placement) -> Iterator[str]:
    """Sessions leave where they are, whoever leaves arrives, nobody is placed who does not wait."""
    for gpu, k in np.argwhere(placement.out > problem.running):
        yield f"GPU {gpu}: {placement.out[gpu, k]} of class {k} leave, {problem.running[gpu, k]} are there"
    for gpu, k in np.argwhere((placement.out > 0) & (placement.arrived > 0)):
        yield f"GPU {gpu}: sessions of class {k} leave and arrive; they are interchangeable"
    out, arrived = placement.out.sum(axis=0), placement.arrived.sum(axis=0)
    for k in np.flatnonzero(out != arrived):
        yield f"class {k}: {out[k]} leave, {arrived[k]} arrive"
    placed = placement.placed.sum(axis=0)
    for k in np.flatnonzero(placed > problem.waiting):
        yield f"class {k}: {placed[k]} are placed, {problem.waiting[k]} wait"


def _only_receivers_receive(problem: Problem, placement: Placement) -> Iterator[str]:
    """Nobody goes to a GPU that is not ready or is to be emptied."""
    entering = (placement.arrived + placement.placed).sum(axis=1)
    for gpu in np.flatnonzero((entering > 0) & ~problem.receives):
        yield f"GPU {gpu}: {entering[gpu]} enter, and it receives nobody"


def _budgets_hold(problem: Problem, placement: Placement) -> Iterator[str]:
    """Migrations in number and size, and per GPU in and out; placing from waiting is free."""
    if placement.moves > problem.moves_max:
        yield f"{placement.moves} migrations, {problem.moves_max} are allowed"
    moved_mib = int(placement.out.sum(axis=0) @ problem.state_mib)
    if moved_mib > problem.moved_mib_max:
        yield f"{moved_mib} MiB migrated, {problem.moved_mib_max} are allowed"
    for name, part, limit in (("leave", placement.out, problem.out_max), ("arrive", placement.arrived, problem.in_max)):
        count = part.sum(axis=1)
        for gpu in np.flatnonzero(count > limit):
            yield f"GPU {gpu}: {count[gpu]} {name}, {limit[gpu]} are allowed"


def _states_fit(problem: Problem, placement: Placement) -> Iterator[str]:
    """A migrating session occupies memory on source and target; a GPU that is too full already takes nothing."""
    entering = placement.arrived + placement.placed
    held_mib = (problem.running + entering) @ problem.state_mib
    for gpu in np.flatnonzero((held_mib > problem.memory_mib) & (entering.sum(axis=1) > 0)):
        yield f"GPU {gpu}: {held_mib[gpu]} MiB during moves, it has {problem.memory_mib[gpu]}"


def _batches_may_run(problem: Problem, placement: Placement) -> Iterator[str]:
    """Nobody enters a batch that may not run."""
    latency_us = problem.latency_us(placement.after(problem))
    entering = (placement.arrived + placement.placed).sum(axis=1)
    for gpu in np.flatnonzero((latency_us >= NEVER_US) & (entering > 0)):
        yield f"GPU {gpu}: its batch may not run"


def evaluate(problem: Problem, placement: Placement) -> Value:
    """The value of an allowed placement."""
    after = placement.after(problem)
    latency_us = problem.latency_us(after)
    unplaced = problem.waiting - placement.placed.sum(axis=0)
    return Value(
        repair=_broken(problem, after, latency_us),
        serve=tuple(int(unplaced[problem.priority_rank == rank].sum()) for rank in range(problem.ranks)),
        meet=_lateness(problem, placement, after, latency_us) if problem.tiers.meet else 0,
        leave=int(after[problem.leaving].sum()),
        balance=int(latency_us.max(initial=0)),
        move=int(placement.out.sum(axis=0) @ problem.state_mib),
        smooth=int(np.rint((latency_us / 1000.0) ** 2).sum()),
    )


def _broken(problem: Problem, after: IntArray, latency_us: IntArray) -> int:
    """MiB beyond memory, and sessions in batches that may not run."""
    excess_mib = np.maximum(after @ problem.state_mib - problem.memory_mib, 0)
    return int(excess_mib.sum() + after[latency_us >= NEVER_US].sum())


def _lateness(problem: Problem, placement: Placement, after: IntArray, latency_us: IntArray) -> int:
    """Weighted microseconds beyond targets; whoever arrived by migration also waits for its state."""
    here = np.maximum(latency_us[:, None] - problem.target_us[None, :], 0)
    moved = np.maximum(latency_us[:, None] + problem.transfer_us[None, :] - problem.target_us[None, :], 0)
    stayed = after - placement.arrived
    return int(((stayed * here + placement.arrived * moved) @ problem.lateness_weight).sum())
