"""A policy on a trace in virtual time: exact at the granularity of batch rounds, by the rules of docs/simulation.md.

Decides what a run is given and what it leaves behind; must never know which policy it runs, nor read a clock itself.
"""

from __future__ import annotations

from collections.abc import Callable

from scheduler.cluster import Snapshot
from scheduler.fleet import Fleet
from scheduler.policy import Prepared
from scheduler.simulation.demand import Users
from scheduler.simulation.engine import Engine, Watchers
from scheduler.simulation.outcome import Outcome
from scheduler.simulation.settings import SimulationSettings
from scheduler.simulation.summarize import summarize
from scheduler.simulation.tables import tables_of
from traces.errors import BadInputError
from traces.trace import Trace

_BY_DEFAULT = SimulationSettings()


def simulate(
    trace: Trace,
    fleet: Fleet,
    prepared: Prepared,
    settings: SimulationSettings = _BY_DEFAULT,
    *,
    fleet_name: str = "",
    clock: Callable[[], float] | None = None,
    on_progress: Callable[[float], None] | None = None,
    observe: Callable[[Snapshot, float], None] | None = None,
    stop: Callable[[], bool] | None = None,
    skip: bool = True,
) -> Outcome:
    """Run the policy from 0 to the end of the last active period.

    `clock` is monotonic seconds, to measure how long steps take. `on_progress` hears the virtual seconds done when an
    epoch ends, `observe` the state and the time after each event. `stop` is polled; true ends the run early, with
    figures up to then. Without `skip` every batch round is taken by itself, which gives the same figures more slowly.
    Raises `BadInputError` where trace, fleet and settings do not fit.
    """
    _refuse(settings, clock)
    began_s = clock() if clock is not None else 0.0
    watchers = Watchers(clock=clock, on_progress=on_progress, observe=observe, stop=stop)
    engine = Engine(Users.of(trace, fleet), fleet, prepared, settings, watchers, skip=skip)
    engine.run()
    tables = tables_of(engine, fleet, rounds=settings.rounds)
    seconds = clock() - began_s if clock is not None else 0.0
    summary = summarize(
        engine, trace, fleet, fleet_name=fleet_name, policy=prepared.name, seed=settings.seed, seconds=seconds
    )
    return Outcome(summary=summary, tables=tables)


def _refuse(settings: SimulationSettings, clock: Callable[[], float] | None) -> None:
    if settings.ahead_chunks < 1:
        raise BadInputError.of("settings", f"ahead_chunks={settings.ahead_chunks} must be >= 1")
    if settings.early_spacing_s < 0:
        raise BadInputError.of("settings", f"early_spacing_s={settings.early_spacing_s} must be >= 0")
    assert settings.plan_time == "stated" or clock is not None, "whoever measures plan times gives a clock"
