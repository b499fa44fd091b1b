"""How many GPUs of each type are on in each epoch ahead, so that they hold what is expected for the least price.

Decides starts and stops on counts, exactly; must never know which GPU it is, who runs, or how demand was forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from solvers.capacity import solve_whole
from solvers.placement.linear_program import LinearProgram, Sheet

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

EPSILON = 1e-7
NODES_MAX = 20
GAP = 1e-3  # of the price, and of sides; the forecast is further off than that
_CENTS = 0.5  # milli-cents: prices are whole


@dataclass(frozen=True, slots=True, kw_only=True)
class LookaheadProblem:
    """Steps 0 .. horizon - 1; step 0 is the epoch that begins now. GPUs change at the beginning of a step.

    limits[i] . usable >= sides[i, step] is wanted of every row i and step. Where GPUs cannot be there in time, what is
    missing is a shortage that no decision could avoid.
    """

    price: IntArray  # [types]: milli-cents per GPU and step, from starting on
    lead: IntArray  # [types]: a GPU started at step h is usable from step h + lead
    usable: IntArray  # [types]: ready now
    draining: IntArray  # [types]: may be taken back at step 0, at once
    becoming: IntArray  # [types, horizon]: starting already, usable from that step on
    off: IntArray  # [types]: may be started
    least: IntArray  # [types]: never stop below
    may_shrink: BoolArray  # [types, horizon]: whether GPUs may be stopped at that step
    limits: FloatArray  # [rows, types]
    sides: FloatArray  # [rows, horizon]

    @property
    def types(self) -> int:
        return len(self.price)

    @property
    def horizon(self) -> int:
        return int(self.becoming.shape[1])

    def most_usable(self) -> IntArray:
        """[types, horizon]: if everything starts now and nothing stops."""
        ready = (self.usable + self.draining)[:, None] + self.becoming.cumsum(axis=1)
        started = np.arange(self.horizon)[None, :] >= self.lead[:, None]
        return np.asarray(ready + np.where(started, self.off[:, None], 0), dtype=np.int64)


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
    model = _Model(problem, reachable, most, gap)
    program, cost = model.sheet.finish(), model.cost()
    fractions = replace(program, whole=np.zeros_like(program.whole))
    relaxed = solve_whole(fractions, cost, nodes_max=0).values
    answers = [] if relaxed is None else [_rounded_up(model, fractions, cost, relaxed)]
    bound, ended, proof = -model.fixed_cost(), "no answer", ""
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


def _rounded_up(model: _Model, fractions: LinearProgram, cost: FloatArray, values: FloatArray) -> FloatArray | None:
    """At least these counts, rounded up, and starts and stops to match; a flow, so they are whole."""
    usable = model.usable_columns
    lower = fractions.lower.copy()
    lower[usable] = np.maximum(lower[usable], np.ceil(values[usable] - EPSILON))
    return solve_whole(replace(fractions, lower=lower), cost, nodes_max=0).values


def relaxed_counts(problem: LookaheadProblem) -> FloatArray:
    """[types, horizon]: usable GPUs in fractions, cheaply; to see which inequalities matter."""
    most = problem.most_usable()
    model = _Model(problem, np.minimum(problem.sides, problem.limits @ most), most, GAP)
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


def usable_counts(problem: LookaheadProblem, starts: IntArray, stops: IntArray, taken_back: IntArray) -> IntArray:
    """[types, horizon]: what starts and stops lead to."""
    arrived = problem.becoming.copy()
    for t in range(problem.types):
        lead = int(problem.lead[t])
        arrived[t, lead:] += starts[t, : max(0, problem.horizon - lead)]
    first = problem.usable + taken_back
    return np.asarray(first[:, None] + (arrived - stops).cumsum(axis=1), dtype=np.int64)


def price_of(problem: LookaheadProblem, usable: IntArray, starts: IntArray) -> int:
    """A GPU is paid in every step in which it is usable or starts up."""
    paid = usable.sum(axis=1) + _waiting_steps(problem)
    for t in range(problem.types):
        in_startup = np.minimum(int(problem.lead[t]), problem.horizon - np.arange(problem.horizon))
        paid[t] += int(starts[t] @ in_startup)
    return int(paid @ problem.price)


def _waiting_steps(problem: LookaheadProblem) -> IntArray:
    """[types]: steps that GPUs starting already have to go; paid whatever is decided."""
    return np.asarray(problem.becoming @ np.arange(problem.horizon), dtype=np.int64)


class _Model:
    """Columns: starts, stops and usable GPUs per type and step, GPUs taken back per type."""

    def __init__(self, problem: LookaheadProblem, sides: FloatArray, most: IntArray, gap: float) -> None:
        self._problem, self._gap = problem, gap
        self.sheet = Sheet()
        cells = problem.types * problem.horizon
        shape = (problem.types, problem.horizon)
        in_time = np.arange(problem.horizon)[None, :] + problem.lead[:, None] < problem.horizon
        may_start = np.where(in_time, problem.off[:, None], 0)
        may_stop = np.where(problem.may_shrink, most, 0)
        least = np.minimum(problem.least[:, None], most)
        # With whole counts of usable GPUs the rest is a flow, whole by itself.
        self._starts = self.sheet.add_columns(cells, 0, may_start.ravel()).reshape(shape)
        self._stops = self.sheet.add_columns(cells, 0, may_stop.ravel()).reshape(shape)
        self._usable = self.sheet.add_columns(cells, least.ravel(), most.ravel(), whole=_decided_now(problem)).reshape(
            shape
        )
        self._back = self.sheet.add_columns(problem.types, 0, problem.draining)
        self._balance_counts()
        self._start_no_more_than_are_off()
        self._hold_what_is_expected(sides)

    def columns(self) -> tuple[IntArray, IntArray, IntArray]:
        return self._starts, self._stops, self._back

    @property
    def usable_columns(self) -> IntArray:
        return self._usable

    def everything_now(self) -> tuple[IntArray, IntArray, IntArray]:
        """What always satisfies every row: all GPUs on."""
        starts = np.zeros((self._problem.types, self._problem.horizon), dtype=np.int64)
        starts[:, 0] = np.where(self._problem.lead < self._problem.horizon, self._problem.off, 0)
        return starts, np.zeros_like(starts), self._problem.draining

    def cost(self) -> FloatArray:
        """Usable steps and start-ups at their price."""
        problem = self._problem
        cost = np.zeros(self.sheet.columns)
        in_startup = np.minimum(problem.lead[:, None], problem.horizon - np.arange(problem.horizon)[None, :])
        cost[self._starts] = problem.price[:, None] * in_startup
        cost[self._usable] = np.broadcast_to(problem.price[:, None], self._usable.shape)
        return cost

    def fixed_cost(self) -> int:
        """What GPUs that start already cost until they are usable."""
        return int(_waiting_steps(self._problem) @ self._problem.price)

    def _balance_counts(self) -> None:
        """A step has what the one before had, and what became usable, and not what was stopped."""
        problem = self._problem
        known = problem.becoming.astype(np.float64)
        known[:, 0] += problem.usable
        rows = self.sheet.add_rows(known.size, known.ravel(), known.ravel()).reshape(known.shape)
        self.sheet.put(rows, self._usable, 1.0)
        self.sheet.put(rows[:, 1:], self._usable[:, :-1], -1.0)
        self.sheet.put(rows, self._stops, 1.0)
        self.sheet.put(rows[:, 0], self._back, -1.0)
        for t in range(problem.types):
            lead = int(problem.lead[t])
            if lead < problem.horizon:
                self.sheet.put(rows[t, lead:], self._starts[t, : problem.horizon - lead], -1.0)

    def _start_no_more_than_are_off(self) -> None:
        """A GPU that was stopped may start again; GPUs in start-up are off no more."""
        problem = self._problem
        until = np.tri(problem.horizon, dtype=np.bool_)  # [step, steps up to it]
        for t in range(problem.types):
            rows = self.sheet.add_rows(problem.horizon, upper=float(problem.off[t]))
            step, past = np.nonzero(until)
            self.sheet.put(rows[step], self._starts[t, past], 1.0)
            step, past = np.nonzero(until)
            self.sheet.put(rows[step], self._stops[t, past], -1.0)

    def _hold_what_is_expected(self, sides: FloatArray) -> None:
        """Capacity is at least the demand's quantile, in every row and step."""
        problem = self._problem
        if problem.types == 1:  # whole GPUs: sides round up, and the program is totally unimodular
            limit = problem.limits[:, :1]
            useful = limit[:, 0] > EPSILON
            if useful.any():
                need = np.ceil(sides[useful] / limit[useful] - EPSILON).max(axis=0)
                rows = self.sheet.add_rows(problem.horizon, lower=need)
                self.sheet.put(rows, self._usable[0], 1.0)
            return
        for step in range(problem.horizon):
            strong = _undominated(problem.limits, sides[:, step], self._gap)
            rows = self.sheet.add_rows(len(strong), lower=sides[strong, step] - EPSILON)
            self.sheet.put(rows[:, None], self._usable[None, :, step], problem.limits[strong])


def _decided_now(problem: LookaheadProblem) -> BoolArray:
    """Counts [types x horizon] that must be whole: those that starts and stops of now lead to, and their neighbours.

    With one type the program is totally unimodular, so that whole counts cost nothing.
    """
    step = np.arange(problem.horizon)[None, :]
    lead = problem.lead[:, None]
    near = (step <= 1) | ((step >= lead) & (step <= lead + 1))
    return np.asarray((near | (problem.types == 1)).ravel(), dtype=np.bool_)


def _undominated(limits: FloatArray, side: FloatArray, gap: float) -> IntArray:
    """Rows that ask for more, to a relative gap, than every other row, whatever GPUs there are."""
    rows = np.flatnonzero(side > EPSILON)
    asks = limits[rows] / side[rows, None]  # asks . usable >= 1: the smaller, the more
    order = np.argsort(asks.sum(axis=1), kind="stable")
    asks = asks[order]
    implied = (asks[:, None, :] <= asks[None, :, :] * (1.0 + gap) + 1e-12).all(axis=2)  # [by, which]
    kept: list[int] = []
    for row in range(len(asks)):
        if not implied[kept, row].any():
            kept.append(row)
    return np.asarray(rows[order[kept]], dtype=np.int64)
