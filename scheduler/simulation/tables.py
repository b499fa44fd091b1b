"""A run that is over as tables.

Decides how what was written down becomes the tables of `outcome.py`; must never know how it came about.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.simulation import outcome
from scheduler.simulation.engine import Engine
from scheduler.simulation.instants import SECOND_US, to_s
from scheduler.simulation.outcome import Tables
from scheduler.simulation.round_state import (
    NOBODY,
    P_CHUNKS,
    P_FIRST_US,
    P_LATE,
    P_STALL_US,
    R_BEGIN_US,
    R_EVERY_US,
    R_GPU,
    R_LATENCY_US,
    R_ROUNDS,
    R_SESSIONS,
)
from scheduler.simulation.stage import STATUSES


def tables_of(engine: Engine, fleet: Fleet, *, rounds: bool) -> Tables:
    return Tables(
        periods=_periods(engine),
        stays=_stays(engine),
        moves=_moves(engine, fleet),
        gpus=_gpus(engine),
        epochs=pl.DataFrame(engine.record.epochs, schema=outcome.EPOCHS, orient="row"),
        decisions=_decisions(engine),
        latencies=_latencies(engine),
        rounds=_rounds(engine) if rounds else None,
    )


def _periods(engine: Engine) -> pl.DataFrame:
    """Those that have begun: all of them, unless the run was ended early."""
    users, begun = engine.users, engine.demand.begun
    seen = engine.rounds.of_periods()[:begun]
    sessions = list(users.period_session[:begun])
    first_us = seen[:, P_FIRST_US]
    first_ms = pl.Series(first_us / 1000, dtype=pl.Float64)
    return pl.DataFrame(
        {
            "session_id": [users.session_ids[s] for s in sessions],
            "profile": [users.profiles[s] for s in sessions],
            "start_s": np.array(users.start_us[:begun], np.int64) / SECOND_US,
            "end_s": np.minimum(np.array(users.end_us[:begun], np.int64), engine.end_us) / SECOND_US,
            "first_chunk_ms": first_ms.set(pl.Series(first_us == NOBODY), None),
            "chunks": seen[:, P_CHUNKS],
            "late_chunks": seen[:, P_LATE],
            "stall_s": seen[:, P_STALL_US] / SECOND_US,
            "unserved_s": np.array(engine.stage.unserved_us[:begun], np.int64) / SECOND_US,
        },
        schema=outcome.PERIODS,
    )


def _stays(engine: Engine) -> pl.DataFrame:
    """In the trace's order of sessions, each session's by time."""
    rows = np.array(engine.stage.stays, np.int64).reshape(-1, 5)
    session, status, gpu, start_us, end_us = rows[np.lexsort((rows[:, 3], rows[:, 0]))].T
    return pl.DataFrame(
        {
            "session_id": pl.Series(engine.users.session_ids, dtype=pl.String).gather(session),
            "status": pl.Series(STATUSES, dtype=pl.String).gather(status),
            "gpu_id": _gpu_names(engine, gpu),
            "start_s": start_us / SECOND_US,
            "end_s": end_us / SECOND_US,
        },
        schema=outcome.STAYS,
    )


def _gpu_names(engine: Engine, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> pl.Series:
    """Null for `NOBODY`, which is the last name's index from behind."""
    names = pl.Series([*engine.stage.gpu_index, None], dtype=pl.String)
    return names.gather(np.where(index == NOBODY, len(names) - 1, index))


def _moves(engine: Engine, fleet: Fleet) -> pl.DataFrame:
    """In the order of their begin; a place moves no state."""
    users = engine.users
    rows = []
    for flight in engine.transfers.begun:
        move = flight.move
        profile = users.profiles[users.session_index[move.session_id]]
        assert flight.end_us is not None, "the run is over"
        rows.append(
            (
                *(move.session_id, move.kind, move.source, move.target, to_s(flight.start_us)),
                None if flight.freeze_us is None else to_s(flight.freeze_us),
                to_s(flight.end_us),
                0.0 if move.kind == "place" else fleet.profiles[profile].state_gib,
                *(move.reason, flight.result),
            )
        )
    return pl.DataFrame(rows, schema=outcome.MOVES, orient="row")


def _gpus(engine: Engine) -> pl.DataFrame:
    """In the order in which they went on."""
    rows = []
    for time_on in engine.power.times:
        gpu = engine.stage.gpus[time_on.gpu_id]
        assert time_on.off_us is not None, "the run is over"
        ready_s = None if time_on.ready_us is None else to_s(time_on.ready_us)
        rows.append(
            (gpu.gpu_id, gpu.gpu_type, gpu.node, to_s(time_on.on_us), ready_s, to_s(time_on.off_us), time_on.end)
        )
    return pl.DataFrame(rows, schema=outcome.GPUS, orient="row")


def _decisions(engine: Engine) -> pl.DataFrame:
    rows = [
        (
            *(to_s(step.at_us), step.early, step.planning_ms, step.solver, step.gap, step.fallback),
            *(step.moves, step.starts, step.drains),
        )
        for step in engine.record.steps
    ]
    return pl.DataFrame(rows, schema=outcome.DECISIONS, orient="row")


def _latencies(engine: Engine) -> pl.DataFrame:
    chunks = sorted(engine.record.latency_chunks.items())
    return pl.DataFrame([(us / 1000, count) for us, count in chunks], schema=outcome.LATENCIES, orient="row")


def _rounds(engine: Engine) -> pl.DataFrame:
    """By begin, then in the fleet's order."""
    rows = engine.rounds.taken_runs()
    rows = rows[np.lexsort((rows[:, R_GPU], rows[:, R_BEGIN_US]))]
    return pl.DataFrame(
        {
            "gpu_id": _gpu_names(engine, rows[:, R_GPU]),
            "start_s": rows[:, R_BEGIN_US] / SECOND_US,
            "every_s": rows[:, R_EVERY_US] / SECOND_US,
            "rounds": rows[:, R_ROUNDS],
            "latency_ms": rows[:, R_LATENCY_US] / 1000,
            "sessions": rows[:, R_SESSIONS],
        },
        schema=outcome.ROUNDS,
    )
