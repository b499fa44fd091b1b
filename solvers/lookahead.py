"""How many GPUs of each type are on in each epoch ahead, so that they hold what is expected for the least price.

Decides starts and stops on counts, exactly; must never know which GPU it is, who runs, or how demand was forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solvers.capacity import solve_whole
from solvers.lookahead_model import EPSILON, LookaheadModel
from solvers.lookahead_problem import LookaheadProblem, price_of, usable_counts
from solvers.placement.linear_program import LinearProgram

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NODES_MAX = 20
GAP = 1e-3  # of the price, and of sides; the forecast is further off than that
_CENTS = 0.5  # milli-cents: prices are whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookahead:
    """Counts for all steps; those of step 0 are to be carried out."""

    usable: IntArray  # [types, horizon]
    starts: IntArray  # [types, horizon]
    stops: IntArray  # [types, horizon]
    taken_back: IntArray  # [types]: draining GPUs that stay
    shortage: FloatArray  # [rows, horizon]: what of the sides cannot be met in time
    price: int  # of all GPUs on in all steps, in milli-cents
    bound: int
    end_reason: str
    proof: str  # of the bound

    @property
    def proven(self) -> bool:
        return self.price <= self.bound


def look_ahead(problem: LookaheadProblem, *, gap: float = GAP) -> Lookahead:
    """Least shortage in every row and step at once, then the least price to a relative gap.

    Counts in fractions give a bound, and rounded up an answer. Where that leaves a gap, branch and bound makes the
    counts whole that the decisions of now lead to; those of other steps stay fractions for the bound, are rounded up
    in the answer, and will be decided when their time has come.
    """
    most = problem.most_usable()
    reachable = np.minimum(problem.sides, problem.limits @ most)
    model = LookaheadModel(problem, reachable, most, gap)
    program, cost = model.sheet.finish(), model.cost()
    fractions = replace(program, whole=np.zeros_like(program.whole))
    relaxed = solve_whole(fractions, cost, nodes_max=0).values
    answers = [] if relaxed is None else [_rounded_up(model, fractions, cost, relaxed)]
    bound, ended, proof = -float(model.fixed_cost()), "no answer", ""
    if relaxed is not None:
        bound, ended, proof = float(cost @ relaxed), "optimal", "counts in fractions"
    if _least(answers, cost) > bound + max(_CENTS, gap * (abs(bound) + model.fixed_cost())):
        found = solve_whole(program, cost, nodes_max=NODES_MAX, gap=gap)
        if found.values is not None:
            answers.append(_rounded_up(model, fractions, cost, found.values))
        if found.bound > bound:
            bound, proof = found.bound, "branch and bound on counts"
        ended = found.end_reason
    known = [values for values in answers if values is not None]
    values = min(known, key=lambda values: float(cost @ values), default=None)
    counts = model.everything_now() if values is None else tuple(np.rint(values[c]) for c in model.columns())
    starts, stops, taken_back = _without_detours(*(part.astype(np.int64) for part in counts))
    usable = usable_counts(problem, starts, stops, taken_back)
    return Lookahead(
        usable=usable,
        starts=starts,
        stops=stops,
        taken_back=taken_back,
        shortage=np.maximum(problem.sides - reachable, 0.0),
        price=price_of(problem, usable, starts),
        bound=max(0, int(np.ceil(bound + model.fixed_cost() - 1e-4))),
        end_reason=ended,
        proof=proof,
    )


def _least(answers: Sequence[FloatArray | None], cost: FloatArray) -> float:
    return min((float(cost @ values) for values in answers if values is not None), default=np.inf)


def _rounded_up(
    model: LookaheadModel, fractions: LinearProgram, cost: FloatArray, values: FloatArray
) -> FloatArray | None:
    """At least these counts, rounded up, and starts and stops to match; a flow, so they are whole."""
    usable = model.usable_columns
    lower = fractions.lower.copy()
    lower[usable] = np.maximum(lower[usable], np.ceil(values[usable] - EPSILON))
    return solve_whole(replace(fractions, lower=lower), cost, nodes_max=0).values


def relaxed_counts(problem: LookaheadProblem) -> FloatArray:
    """[types, horizon]: usable GPUs in fractions, cheaply; to see which inequalities matter."""
    most = problem.most_usable()
    model = LookaheadModel(problem, np.minimum(problem.sides, problem.limits @ most), most, GAP)
    program = model.sheet.finish()
    relaxed = replace(program, whole=np.zeros_like(program.whole))
    found = solve_whole(relaxed, model.cost(), nodes_max=0)
    return most.astype(np.float64) if found.values is None else found.values[model.usable_columns]


def _without_detours(starts: IntArray, stops: IntArray, taken_back: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """GPUs that are stopped at the step at which they are taken back or started are left as they are.

    Starting up costs what being usable costs, so that this changes no price.
    """
    stops, starts = stops.copy(), starts.copy()
    kept = np.minimum(taken_back, stops[:, 0])
    stops[:, 0] -= kept
    at_once = np.minimum(starts, stops)
    return starts - at_once, stops - at_once, taken_back - kept
