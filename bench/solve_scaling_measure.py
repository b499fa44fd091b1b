"""One case of the placement benchmark, measured: a fresh process plans, asks the competitors, and checks everybody.

Decides what is timed; must never know what is expected. Run by bench.solve_scaling as
python -m bench.solve_scaling_measure CASE --gpus N --size SIZE [--deadline S ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from bench.memory import peak_mib
from bench.placement_workloads import arrivals_mean, churn
from bench.result import Size
from bench.solve_scaling_cases import CASES, EXTENTS, RAW_DEADLINE_S, RAW_SOLVERS, Case, Extent
from bench.turboserve_plain import place_plainly
from runtime.solve_child import warm_up
from scheduler.policies.turboserve_placement import REBALANCING_STEPS, Load, place_like_turboserve
from solvers.placement.check import evaluate, violations
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve
from solvers.placement.problem import Problem
from solvers.placement.reach import Reach
from solvers.placement.solution import Answer, Bounds, Placement
from solvers.placement.tier_by_tier import solve_tier_by_tier

Mode = Literal["one-shot", "closed loop"]
LOADS: tuple[Load, ...] = get_args(Load)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One plan of ours."""

    mode: Mode
    deadline_s: float
    seed: int
    epoch: int  # 0 in one-shot problems
    seconds: float  # all in, the arrays that solvers work on included
    first_plan_s: float  # until the first valid placement was there
    value_us: int  # the worst latency
    bound_us: int
    gap: float  # of the first tier that is not proven
    unserved: int
    moves: int
    solver: str
    end_reason: str
    faults: tuple[str, ...]  # of the check; also a bound that a competitor's placement is below


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One plan of the reference: with its own budget of steps, or with as many as the problem allows migrations."""

    mode: Mode
    seed: int
    epoch: int
    load: Load
    equal_budget: bool
    seconds: float
    plain_s: float | None  # the same, written plainly; None where it was not run
    value_us: int
    unserved: int
    moves: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One answer of a solver that was given the whole problem."""

    solver: str
    seed: int
    build_s: float  # of the model alone, beside the deadline
    seconds: float  # all in
    value_us: int | None  # None: no placement that serves everybody
    bound_us: int
    end_reason: str
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that one process found out."""

    case: str
    gpus: int
    warm_up_s: float  # before the first plan: loads libraries, and compiles where nothing is compiled yet
    peak_mib: float  # after our plans and before anybody else's
    runs: tuple[Run, ...]
    references: tuple[Reference, ...]
    raws: tuple[Raw, ...]


def measure(case: Case, gpus: int, extent: Extent, deadlines_s: Sequence[float]) -> Measured:
    """Run one case in this process: first we, then the reference, then the raw solvers."""
    begun_s = time.perf_counter()
    warm_up()
    for seed in range(3):
        _solve(case, case.workload(16, seed).problem(), 1.0, seed)
    warm_up_s = time.perf_counter() - begun_s
    problems = [case.workload(gpus, seed).problem() for seed in range(extent.seeds)]
    runs = [
        _run(case, problem, "one-shot", deadline_s, seed, 0)[0]
        for deadline_s in deadlines_s
        for seed, problem in enumerate(problems)
    ]
    for seed in range(extent.chains):
        runs += _chain(case, problems[seed], max(deadlines_s), seed, extent.epochs)
    peak = peak_mib()
    references = [
        run
        for seed, problem in enumerate(problems)
        for run in _references(problem, seed, gpus <= extent.plain_gpus_max)
    ]
    for seed in range(extent.chains):
        for load in LOADS:
            for equal_budget in (False, True):
                references += _reference_chain(problems[seed], seed, extent.epochs, load, equal_budget)
    raws: list[Raw] = []
    if gpus in extent.raw_gpus and case.name in extent.raw_cases:
        for name in RAW_SOLVERS:  # imports their libraries
            _raw(name, case.workload(4, 0).problem(), 0)
        raws = [
            _raw(name, problem, seed)
            for name in RAW_SOLVERS
            for seed, problem in enumerate(problems[: extent.raw_seeds])
        ]
    return Measured(
        case=case.name,
        gpus=gpus,
        warm_up_s=warm_up_s,
        peak_mib=peak,
        runs=tuple(_with_cross_check(run, references, raws) for run in runs),
        references=tuple(references),
        raws=tuple(raws),
    )


def _solve(case: Case, problem: Problem, deadline_s: float, seed: int) -> Answer:
    return solve(problem, Meter(clock=time.perf_counter, seconds=deadline_s), seed=seed, gap=case.gap_wanted)


def _run(case: Case, problem: Problem, mode: Mode, deadline_s: float, seed: int, epoch: int) -> tuple[Run, Placement]:
    begun_s = time.perf_counter()
    answer = _solve(case, problem, deadline_s, seed)
    seconds = time.perf_counter() - begun_s
    faults = violations(problem, answer.placement)
    value = evaluate(problem, answer.placement)
    if value != answer.value:
        faults.append(f"its placement is worth {value}, it says {answer.value}")
    run = Run(
        mode=mode,
        deadline_s=deadline_s,
        seed=seed,
        epoch=epoch,
        seconds=seconds,
        first_plan_s=answer.stages[0].seconds,
        value_us=value.balance,
        bound_us=answer.bounds.balance,
        gap=answer.stages[-1].gap,
        unserved=sum(value.serve),
        moves=answer.placement.moves,
        solver=answer.solver,
        end_reason=answer.end_reason,
        faults=tuple(faults),
    )
    return run, answer.placement


def _chain(case: Case, problem: Problem, deadline_s: float, seed: int, epochs: int) -> list[Run]:
    """Our own plans are carried out, epoch after epoch."""
    arrivals = arrivals_mean(problem)
    runs: list[Run] = []
    for epoch in range(epochs):
        run, placement = _run(case, problem, "closed loop", deadline_s, seed, epoch)
        runs.append(run)
        problem = churn(problem, placement, np.random.default_rng([seed, epoch]), arrivals=arrivals)
    return runs


def _references(problem: Problem, seed: int, plainly: bool) -> list[Reference]:
    return [
        _reference(problem, "one-shot", seed, 0, load, equal_budget, plainly and not equal_budget)[0]
        for load in LOADS
        for equal_budget in (False, True)
    ]


def _reference(
    problem: Problem, mode: Mode, seed: int, epoch: int, load: Load, equal_budget: bool, plainly: bool
) -> tuple[Reference, Placement]:
    steps_max = problem.moves_max if equal_budget else REBALANCING_STEPS
    begun_s = time.perf_counter()
    placement = place_like_turboserve(problem, steps_max=steps_max, load=load)
    seconds = time.perf_counter() - begun_s
    faults = violations(problem, placement)
    plain_s: float | None = None
    if plainly:
        begun_s = time.perf_counter()
        again = place_plainly(problem, steps_max=steps_max, load=load)
        plain_s = time.perf_counter() - begun_s
        if not (again.after(problem) == placement.after(problem)).all():
            faults.append("the two writings of the reference disagree")
    value = evaluate(problem, placement)
    reference = Reference(
        mode=mode,
        seed=seed,
        epoch=epoch,
        load=load,
        equal_budget=equal_budget,
        seconds=seconds,
        plain_s=plain_s,
        value_us=value.balance,
        unserved=sum(value.serve),
        moves=placement.moves,
        faults=tuple(faults),
    )
    return reference, placement


def _reference_chain(problem: Problem, seed: int, epochs: int, load: Load, equal_budget: bool) -> list[Reference]:
    """The reference's plans are carried out; as many sessions leave and arrive as in our own loop."""
    arrivals = arrivals_mean(problem)
    runs: list[Reference] = []
    for epoch in range(epochs):
        run, placement = _reference(problem, "closed loop", seed, epoch, load, equal_budget, False)
        runs.append(run)
        problem = churn(problem, placement, np.random.default_rng([seed, epoch]), arrivals=arrivals)
    return runs


def _raw(name: str, problem: Problem, seed: int) -> Raw:
    """From the reference's placement, so that a solver need not find where everybody fits.

    The clock stands still while the model is built, so that all of the deadline is for the solver.
    """
    from solvers.placement.cpsat import CpSatModel
    from solvers.placement.highs import HighsModel

    models: dict[str, type[CpSatModel | HighsModel]] = {"cpsat": CpSatModel, "highs": HighsModel}
    hint = place_like_turboserve(problem)
    begun_s, build_s = time.perf_counter(), 0.0
    meter = Meter(clock=lambda: time.perf_counter() - build_s, seconds=RAW_DEADLINE_S)

    def build(reach: Reach) -> CpSatModel | HighsModel:
        nonlocal build_s
        build_begun_s = time.perf_counter()
        model = models[name](problem, reach, meter, seed)
        build_s = time.perf_counter() - build_begun_s
        return model

    found = solve_tier_by_tier(problem, meter, name=name, hint=hint, bounds=Bounds(), build=build, build_s=0.0)
    seconds = time.perf_counter() - begun_s
    placement = hint if found.placement is None else found.placement
    value = evaluate(problem, placement)
    return Raw(
        solver=name,
        seed=seed,
        build_s=build_s,
        seconds=seconds,
        value_us=None if any(value.serve) else value.balance,
        bound_us=found.bounds.balance,
        end_reason=found.end_reason,
        faults=tuple(violations(problem, placement)),
    )


def _with_cross_check(run: Run, references: Sequence[Reference], raws: Sequence[Raw]) -> Run:
    """Nobody's placement may be below our bound, where both serve everybody who waits."""
    if run.mode != "one-shot" or run.unserved:
        return run
    others: dict[str, int] = {
        f"the reference by {other.load}": other.value_us
        for other in references
        if other.mode == "one-shot" and other.seed == run.seed and not other.unserved
    }
    others |= {other.solver: other.value_us for other in raws if other.seed == run.seed and other.value_us is not None}
    wrong = [
        f"the bound {run.bound_us} is above the {value_us} of {name}"
        for name, value_us in others.items()
        if value_us < run.bound_us
    ]
    wrong += [
        f"the value {run.value_us} is below the {other.bound_us} that {other.solver} proves"
        for other in raws
        if other.seed == run.seed and other.bound_us > run.value_us
    ]
    return dataclasses.replace(run, faults=(*run.faults, *wrong))


def measured_from(text: str) -> Measured:
    """What `main` has printed."""
    fields: dict[str, Any] = json.loads(text)
    rows = {"runs": Run, "references": Reference, "raws": Raw}
    made = {name: tuple(kind(**row) for row in fields[name]) for name, kind in rows.items()}
    return Measured(**(fields | made))


def main() -> int:
    """Print the measurement as JSON."""
    parser = argparse.ArgumentParser(description="Measure one case of the placement benchmark in this process.")
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--size", choices=get_args(Size), required=True)
    parser.add_argument("--deadline", type=float, action="append")
    given = parser.parse_args()
    extent = EXTENTS[given.size]
    measured = measure(CASES[given.case], given.gpus, extent, given.deadline or extent.deadlines_s)
    json.dump(dataclasses.asdict(measured), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
