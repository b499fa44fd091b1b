"""A run that is over in figures.

Decides what each figure of the summary counts; must never know how tables look.
"""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from scheduler.fleet import Fleet
from scheduler.simulation.engine import Engine
from scheduler.simulation.instants import SECOND_US, to_s
from scheduler.simulation.outcome import Summary
from scheduler.simulation.percentiles import percentiles
from scheduler.simulation.power import TimeOn
from scheduler.simulation.round_state import NOBODY, P_CHUNKS, P_FIRST_US, P_LATE, P_STALL_US
from traces.trace import Trace

_HOUR_US = 3600 * SECOND_US


def summarize(
    engine: Engine, trace: Trace, fleet: Fleet, *, fleet_name: str, policy: str, seed: int, seconds: float
) -> Summary:
    users, begun = engine.users, engine.demand.begun
    seen = engine.rounds.of_periods()[:begun]
    has_first = seen[:, P_FIRST_US] != NOBODY
    first_us = Counter(seen[has_first, P_FIRST_US].tolist())
    chunks = int(seen[:, P_CHUNKS].sum())
    later_chunks = chunks - int(has_first.sum())
    steps = engine.record.steps
    done = [flight.move for flight in engine.transfers.begun if flight.result == "done"]
    migrated = [users.profiles[users.session_index[move.session_id]] for move in done if move.kind == "migrate"]
    return Summary(
        trace=trace.name,
        fleet=fleet_name,
        policy=policy,
        seed=seed,
        horizon_s=to_s(engine.end_us),
        sessions=trace.session_count,
        chunks=chunks,
        gpu_dollars=_dollars(engine, fleet),
        gpu_hours=sum(_paid_us(time_on) for time_on in engine.power.times) / _HOUR_US,
        gpus_max=_most_at_once(engine.power.times),
        chunk_latency_ms=percentiles({us / 1000: n for us, n in engine.record.latency_chunks.items()}),
        first_chunk_ms=percentiles({us / 1000: n for us, n in first_us.items()}),
        late_first_chunk_ratio=_late_first_chunks(engine, fleet) / begun if begun else 0.0,
        late_chunk_ratio=int(seen[:, P_LATE].sum()) / later_chunks if later_chunks else 0.0,
        stall_seconds=to_s(int(seen[:, P_STALL_US].sum())),
        continuous_play_ratio=int((has_first & (seen[:, P_STALL_US] == 0)).sum()) / begun if begun else 0.0,
        unserved_session_seconds=to_s(sum(engine.stage.unserved_us)),
        migrations=len(migrated),
        migrated_gib=sum((fleet.profiles[profile].state_gib for profile in migrated), 0.0),
        resumes=sum(move.kind == "resume" for move in done),
        gap=percentiles(Counter(step.gap for step in steps if step.gap is not None)),
        fallbacks=sum(step.fallback is not None for step in steps),
        planning_ms=percentiles(Counter(step.planning_ms for step in steps if step.planning_ms is not None)),
        seconds=seconds,
    )


def _late_first_chunks(engine: Engine, fleet: Fleet) -> int:
    """Periods whose first chunk came after the target, or that lasted longer without one."""
    users, begun = engine.users, engine.demand.begun
    target_us = round(1000 * fleet.target.first_chunk_ms)
    first_us = engine.rounds.of_periods()[:begun, P_FIRST_US].tolist()
    ends_us = (min(end_us, engine.end_us) for end_us in users.end_us[:begun])
    lasted_us = (end_us - start_us for start_us, end_us in zip(users.start_us, ends_us, strict=False))
    return sum((its if first == NOBODY else first) > target_us for first, its in zip(first_us, lasted_us, strict=True))


def _paid_us(time_on: TimeOn) -> int:
    assert time_on.off_us is not None, "the run is over"
    return time_on.off_us - time_on.on_us


def _dollars(engine: Engine, fleet: Fleet) -> float:
    paid_us: Counter[str] = Counter()
    for time_on in engine.power.times:
        paid_us[engine.stage.gpus[time_on.gpu_id].gpu_type] += _paid_us(time_on)
    return sum(own.price_per_hour * paid_us[name] / _HOUR_US for name, own in fleet.gpu_types.items())


def _most_at_once(times: list[TimeOn]) -> int:
    """GPUs that go off make room for those that go on at the same instant."""
    changes: Counter[int] = Counter()
    for time_on in times:
        changes[time_on.on_us] += 1
        assert time_on.off_us is not None, "the run is over"
        changes[time_on.off_us] -= 1
    return max(accumulate(changes[at_us] for at_us in sorted(changes)), default=0)
