"""Simulations on this machine's clock: one run, and many runs, side by side if wanted.

Decides which clock is read and which process does what; must never print, nor know how results are shown.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event

from runtime.solve_child import warm_up
from scheduler.compare import Cell, Run
from scheduler.fleet import Fleet
from scheduler.policies.registry import prepare
from scheduler.simulation.fault_law import FaultLaw, draw_faults
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import PlanTime, SimulationSettings
from scheduler.simulation.simulate import simulate
from traces.trace import Trace

_POLL_S = 0.2
SOLVING = "epochal"  # policies that begin so load solvers, which is no part of a plan's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A policy by its name, with what is set of it."""

    policy: str
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is the same in every run of a command."""

    faults: FaultLaw = field(default_factory=FaultLaw)
    plan_time: PlanTime = "stated"
    rounds: bool = False
    fleet_name: str = ""


def simulate_by_the_clock(
    trace: Trace,
    fleet: Fleet,
    choice: Choice,
    seed: int,
    options: RunOptions,
    *,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Outcome:
    """One run; `seed` draws the policy's choices and the faults, `progress` hears the virtual time in seconds.

    Raises `BadInputError` where trace, fleet and policy do not fit each other.
    """
    settings = SimulationSettings(
        plan_time=options.plan_time,
        faults=draw_faults(options.faults, trace.horizon_us / 1e6, seed),
        rounds=options.rounds,
        seed=seed,
    )
    prepared = prepare(choice.policy, fleet, trace, seed=seed, parameters=choice.settings)
    if choice.policy.startswith(SOLVING):
        warm_up()
    return simulate(
        trace,
        fleet,
        prepared,
        settings,
        fleet_name=options.fleet_name,
        clock=time.perf_counter,
        on_progress=progress,
        stop=stop,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that a process needs for the runs of a comparison."""

    traces: Sequence[Trace]
    fleet: Fleet
    choices: Mapping[str, Choice]
    options: RunOptions
    keep_all: bool  # the tables of every run; else of those of the first seed

    def run(
        self, cell: Cell, stop: Callable[[], bool] | None = None, progress: Callable[[float], None] | None = None
    ) -> Run:
        """The run of one cell."""
        choice = self.choices[cell.policy]
        outcome = simulate_by_the_clock(
            self.traces[cell.trace], self.fleet, choice, cell.seed, self.options, stop=stop, progress=progress
        )
        keep = self.keep_all or cell.seed == 0
        return Run(cell=cell, summary=outcome.summary, outcome=outcome if keep else None)


def run_all(
    work: Work,
    cells: Sequence[Cell],
    *,
    processes: int,
    stop: Callable[[], bool],
    started: Callable[[Cell], Callable[[float], None]] = lambda _: lambda _: None,
    ended: Callable[[Cell], None] = lambda _: None,
) -> tuple[Run, ...]:
    """Every run, in the order of the cells; after `stop` those that were finished.

    `started` hears which cell begins and gives what hears its virtual time (one process only).
    """
    done: dict[Cell, Run] = {}
    if processes == 1:
        for cell in cells:
            if stop():
                break
            run = work.run(cell, stop, started(cell))
            if not stop():
                done[cell] = run
            ended(cell)
    else:
        for run in _spread(work, cells, processes, stop):
            done[run.cell] = run
            ended(run.cell)
    return tuple(done[cell] for cell in cells if cell in done)


def _spread(work: Work, cells: Sequence[Cell], processes: int, stop: Callable[[], bool]) -> Iterator[Run]:
    """Runs as they end, each in one of several processes; none that was stopped halfway."""
    context = multiprocessing.get_context("spawn")
    stopped = context.Event()
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_begin, initargs=(work, stopped)) as pool:
        waiting = {pool.submit(_run_here, cell) for cell in cells}
        while waiting:
            done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            if stop():
                stopped.set()  # runs that have not begun come back at once
            yield from filter(None, (one.result() for one in done))


_HERE: list[tuple[Work, Event]] = []  # in a process of the pool: what it works on


def _begin(work: Work, stopped: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and says so through `stopped`
    _HERE.append((work, stopped))


def _run_here(cell: Cell) -> Run | None:
    work, stopped = _HERE[0]
    if stopped.is_set():
        return None
    run = work.run(cell, stopped.is_set)
    return None if stopped.is_set() else run
