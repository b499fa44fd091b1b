"""A lexicographic optimum from a solver that knows one objective at a time.

Decides the order of tiers, what each is held at before the next, and which bounds are true; must never know how a tier
is solved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.problem import NEVER_US, Problem
from solvers.placement.reach import Reach
from solvers.placement.registry import Found
from solvers.placement.solution import Bounds, Placement, TierName, Value, better

Step = tuple[TierName, int]  # a tier and, for `serve`, the rank

SHARE_OF_TIME = 0.75  # of what is left, for a tier that others follow


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one tier: its bound is in the tier's own unit, microseconds for `balance`."""

    status: Literal["optimal", "limit", "infeasible", "failed"]
    placement: Placement | None = None
    bound: int | None = None  # None: nothing was proven


class TierModel(Protocol):
    """One formulation in one solver. `least` minimises a tier, `hold` keeps it at a value or less from then on."""

    def least(self, step: Step, share: float, *, lower: int, start: Placement) -> Outcome: ...

    def hold(self, step: Step, value: int) -> None: ...


def solve_tier_by_tier(
    problem: Problem,
    meter: Meter,
    *,
    name: str,
    hint: Placement | None,
    bounds: Bounds,
    build: Callable[[Reach], TierModel],
    build_s: float,
) -> Found:
    """Tier after tier, as far as the meter goes; `build_s` is what building the model takes, at worst."""
    if meter.over(2 * build_s):
        return Found(placement=None, bounds=bounds, end_reason="too little time to build the model")
    search = _Search(problem, tidy(hint) if hint is not None else Placement.unchanged(problem), bounds, name)
    model: TierModel | None = None
    end_reason = "every tier that counts is proven"
    for step in steps(problem):
        known, current = search.bound(step), search.current(step)
        if current <= known or (step[0] == "balance" and current <= known * (1 + problem.tiers.balance_tolerance)):
            search.passed(step, known, model)
            continue
        if meter.over(build_s if model is None else 0.0):
            end_reason = "time"
            break
        if model is None:
            model = build(Reach.of(problem, search.cap_us()))
            for earlier in search.held:
                model.hold(*earlier)
        share = 1.0 if step[0] == "move" else SHARE_OF_TIME
        outcome = model.least(step, share, lower=known, start=search.placement)
        if outcome.status == "infeasible":
            late = step[0] == "meet" or (problem.tiers.meet and search.value.meet > 0)
            assert late, f"{name} finds no placement, and there is one: {step}"
            if step[0] == "meet":
                search.proves(step, 1)
            end_reason = "does not apply: sessions are late, and by how much is not linear"
            break
        search.proves(step, outcome.bound)
        if outcome.placement is not None:
            search.offer(step, outcome.placement)
        if search.refused:
            end_reason = f"refused: {search.refused[0]}"
        elif outcome.status != "optimal":
            end_reason = "time" if outcome.status == "limit" else "the solver failed"
        if step[0] == "meet" and search.current(step) > 0 and outcome.placement is None:
            break
        search.passed(step, search.bound(step), model)
    placement = search.placement
    if hint is not None and better(problem, evaluate(problem, hint), search.value):
        placement = hint
    return Found(placement=placement, bounds=search.bounds, end_reason=end_reason)


def steps(problem: Problem) -> list[Step]:
    """The tiers that a model can minimise, the first one first."""
    tiers = problem.tiers
    ranks: list[Step] = [("serve", rank) for rank in range(problem.ranks)]
    later: list[tuple[bool, Step]] = [
        (tiers.meet, ("meet", 0)),
        (tiers.leave, ("leave", 0)),
        (tiers.balance, ("balance", 0)),
        (tiers.move, ("move", 0)),
    ]
    return [("repair", 0), *ranks, *(step for counts, step in later if counts)]


def of_step(value: Value | Bounds, step: Step) -> int:
    """What a value or a bound says about one step."""
    tier, rank = step
    if tier == "serve":
        return value.serve[rank] if value.serve else 0
    part = getattr(value, tier)
    assert isinstance(part, int)
    return part


def tidy(placement: Placement) -> Placement:
    """The same sessions on every GPU with no migrations in vain: no class leaves a GPU that it enters.

    A session that arrives where another of its class leaves stays instead; one that is placed there is placed where
    the other one arrived. Never worse, and allowed if the placement was.
    """
    stays = np.minimum(placement.out, placement.arrived)
    out, arrived = placement.out - stays, placement.arrived - stays
    swapped = np.minimum(out, placement.placed)
    if not swapped.any():
        return Placement(out=out, arrived=arrived, placed=placement.placed)
    # Arrivals of each class in the order of GPUs; the first of them become placements.
    before = arrived.cumsum(axis=0) - arrived
    turned = np.clip(swapped.sum(axis=0)[None, :] - before, 0, arrived)
    return Placement(out=out - swapped, arrived=arrived - turned, placed=placement.placed - swapped + turned)


@dataclass(slots=True)
class _Search:
    """The best placement so far, what is proven, and whether what is still to be proven would be true.

    A tier held at the value v of a placement found leaves every optimum in, but only if all tiers before it are
    proven: else an optimum may be better there and worse here. So after the first tier that is not proven, one more
    bound is true, and none after that.
    """

    problem: Problem
    placement: Placement
    bounds: Bounds
    name: str
    value: Value = field(init=False)
    held: list[tuple[Step, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)  # why the solver's answers were not used: it rounds
    proven: bool = True  # all steps that are passed
    sound: bool = True  # what is proven now is true of every optimum of the steps that are passed

    def __post_init__(self) -> None:
        self.value = evaluate(self.problem, self.placement)

    def current(self, step: Step) -> int:
        return of_step(self.value, step)

    def bound(self, step: Step) -> int:
        return of_step(self.bounds, step)

    def cap_us(self) -> int:
        """A worst latency that some best placement keeps: that of this one, if it is best in the tiers before."""
        before = [step for step in steps(self.problem) if step[0] not in ("balance", "move")]
        best = all(self.current(step) <= self.bound(step) for step in before)
        if not best or not self.problem.tiers.balance or self.value.balance >= NEVER_US:
            return NEVER_US - 1
        return int(self.value.balance * (1 + self.problem.tiers.balance_tolerance))

    def proves(self, step: Step, bound: int | None) -> None:
        if bound is None or not self.sound or bound <= self.bound(step):
            return
        tier, rank = step
        proofs = {**self.bounds.proofs, tier: self.name}
        if tier == "serve":
            ranks = list(self.bounds.serve or (0,) * self.problem.ranks)
            ranks[rank] = bound
            self.bounds = replace(self.bounds, serve=tuple(ranks), proofs=proofs)
        else:
            self.bounds = replace(self.bounds, **{tier: bound}, proofs=proofs)  # type: ignore[arg-type]

    def offer(self, step: Step, placement: Placement) -> None:
        """Take a placement that is allowed and better, counted up to this step; what is held may not be given up."""
        placement = tidy(placement)
        self.refused += violations(self.problem, placement)
        if self.refused:
            return
        value = evaluate(self.problem, placement)
        if any(of_step(value, earlier) > limit for earlier, limit in self.held):
            return
        if of_step(value, step) < self.current(step):
            self.placement, self.value = placement, value

    def passed(self, step: Step, bound: int, model: TierModel | None) -> None:
        """Hold the step where it is and go on."""
        value = self.current(step)
        limit = int(value * (1 + self.problem.tiers.balance_tolerance)) if step[0] == "balance" else value
        self.held.append((step, limit))
        if model is not None:
            model.hold(step, limit)
        self.sound = self.proven
        self.proven &= value <= bound
