"""The best placement so far, and what is proven about it.

Decides which of two placements is kept and how far the kept one can be from the best; must never know who found it.
"""

from __future__ import annotations

from dataclasses import replace

from solvers.placement.check import evaluate, violations
from solvers.placement.problem import Problem
from solvers.placement.solution import Bounds, Placement, Value, better


class Incumbent:
    """Keeps the better of what is offered; nothing that breaks a rule gets in."""

    def __init__(self, problem: Problem, placement: Placement, bounds: Bounds) -> None:
        faults = violations(problem, placement)
        assert not faults, f"the first placement breaks the rules: {faults[0]}"
        self._problem = problem
        self.placement, self.value = placement, evaluate(problem, placement)
        self.bounds = bounds
        self.solver = "place"

    def offer(self, placement: Placement, solver: str) -> bool:
        """Keep it if it is allowed and better; True if it was kept."""
        if violations(self._problem, placement):
            return False
        value = evaluate(self._problem, placement)
        if not better(self._problem, value, self.value):
            return False
        self.placement, self.value, self.solver = placement, value, solver
        return True

    def replace_smoother(self, placement: Placement) -> None:
        """Keep it if only bytes moved are worse, by what smoothing may spend, and the latencies are smoother."""
        if violations(self._problem, placement):
            return
        value, kept = evaluate(self._problem, placement), self.value
        first = (value.repair, value.serve, value.meet, value.leave)
        near = value.balance <= kept.balance * (1 + self._problem.tiers.balance_tolerance)
        if first <= (kept.repair, kept.serve, kept.meet, kept.leave) and near and value.smooth < kept.smooth:
            self.placement, self.value = placement, value

    def prove(self, bounds: Bounds) -> None:
        """Take over every bound that is tighter, with its proof."""
        kept, proofs = self.bounds, dict(self.bounds.proofs)
        for tier in ("repair", "meet", "leave", "balance", "move", "smooth"):
            if getattr(bounds, tier) > getattr(kept, tier):
                kept = replace(kept, **{tier: getattr(bounds, tier)})
                proofs[tier] = bounds.proofs.get(tier, "")
        if bounds.serve and (not kept.serve or bounds.serve > kept.serve):
            kept = replace(kept, serve=bounds.serve)
            proofs["serve"] = bounds.proofs.get("serve", "")
        self.bounds = replace(kept, proofs=proofs)

    @property
    def settled(self) -> bool:
        """Whether the tiers before `balance` are at their bounds, so that the bound of `balance` counts."""
        value, bounds = self.value, self.bounds
        return (
            value.repair <= bounds.repair
            and value.serve == (bounds.serve or (0,) * self._problem.ranks)
            and (value.meet <= bounds.meet or not self._problem.tiers.meet)
            and (value.leave <= bounds.leave or not self._problem.tiers.leave)
        )

    @property
    def gap(self) -> float:
        """(value - bound) / value of the first tier that is not at its bound; of `balance` if all before it are."""
        value, bounds, tiers = self.value, self.bounds, self._problem.tiers
        serve_bound = bounds.serve or (0,) * self._problem.ranks
        pairs = [(value.repair, bounds.repair), *zip(value.serve, serve_bound, strict=True)]
        pairs += [(value.meet, bounds.meet)] if tiers.meet else []
        pairs += [(value.leave, bounds.leave)] if tiers.leave else []
        first = next(((have, bound) for have, bound in pairs if have > bound), (value.balance, bounds.balance))
        return relative_gap(*first) if tiers.balance or first != (value.balance, bounds.balance) else 0.0


def relative_gap(value: float, bound: float) -> float:
    """(value - bound) / value; 0 where the value is 0 or at its bound."""
    return max(0.0, (value - bound) / value) if value > 0 else 0.0


def value_before(problem: Problem) -> Value:
    """The value of the state as it is: nobody moves, nobody is placed."""
    return evaluate(problem, Placement.unchanged(problem))
