"""A simulated run as arrays: GPUs, when they are on, who sits where in which status, who migrates.

Decides which stays are bars on a GPU and which are rows below; must never know a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms_mixed
from scheduler.occupancy import sweep
from scheduler.report.schedule import (
    Gpus,
    Int,
    Moves,
    OnIntervals,
    Periods,
    Placed,
    Schedule,
    gpus_of,
    indexed,
    load_of,
    microseconds,
)
from scheduler.simulation.outcome import Tables

STATUSES_BELOW = ("suspended", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """Stays of one status on no GPU, [n] each."""

    name: str
    kind: int  # as in `kinds_of`
    session_index: Int
    start_us: Int
    end_us: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMoves:
    """Moves between a GPU and host memory, [n] each."""

    resumes: np.ndarray[tuple[int], np.dtype[np.bool_]]  # False: it is an offload
    gpu_index: Int
    start_us: Int
    end_us: Int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSchedule:
    """Everything the swim-lanes of a run are drawn from.

    `schedule.placed.profile_index` is the kind of a bar (see `kinds_of`); all else in `schedule` is as in a plan's.
    """

    schedule: Schedule
    session_ids: pl.Series
    below: tuple[Below, ...]
    host_moves: HostMoves
    moved_from_us: Int  # [migrations of schedule]: when each began to travel


def kinds_of(fleet: Fleet) -> list[str]:
    """What a bar can be, by number: of each profile active and idle, then suspended and waiting."""
    return [f"{profile}, {status}" for profile in fleet.profiles for status in ("active", "idle")] + [*STATUSES_BELOW]


def run_schedule(tables: Tables, fleet: Fleet) -> RunSchedule:
    """Turn the tables of a run on this fleet into arrays."""
    gpus = gpus_of(tables.gpus, fleet)
    session_ids = tables.periods["session_id"].unique(maintain_order=True)
    profile_of = _profiles(tables.periods, session_ids, fleet)
    stays = tables.stays
    on_gpu = stays.filter(pl.col("gpu_id").is_not_null())
    session = indexed(on_gpu["session_id"], session_ids.to_list())
    idle = (on_gpu["status"] != "active").to_numpy()
    placed = Placed(
        session_index=session,
        profile_index=2 * profile_of[session] + idle,
        gpu_index=indexed(on_gpu["gpu_id"], gpus.gpu_id),
        start_us=microseconds(on_gpu["start_s"]),
        end_us=microseconds(on_gpu["end_s"]),
    )
    active = ~idle
    contents = sweep(
        gpu_index=placed.gpu_index[active],
        profile_index=profile_of[session][active],
        start_us=placed.start_us[active],
        end_us=placed.end_us[active],
        profile_count=len(fleet.profiles),
    )
    types = gpus.type_index[contents.gpu_index]
    moves, moved_from_us = _migrations(tables.moves, gpus, session_ids, profile_of)
    schedule = Schedule(
        fleet=fleet,
        gpus=gpus,
        on=_on(tables.gpus, gpus),
        periods=Periods(
            profile_index=indexed(tables.periods["profile"], list(fleet.profiles)),
            start_us=microseconds(tables.periods["start_s"]),
            end_us=microseconds(tables.periods["end_s"]),
        ),
        placed=placed,
        moves=moves,
        contents=contents,
        latency_ms=chunk_latency_ms_mixed(fleet, types, contents.counts),
        load=load_of(fleet, types, contents),
    )
    return RunSchedule(
        schedule=schedule,
        session_ids=session_ids,
        below=tuple(_below(stays, session_ids, name, 2 * len(fleet.profiles) + k) for k, name in _numbered()),
        host_moves=_host_moves(tables.moves, gpus),
        moved_from_us=moved_from_us,
    )


def _numbered() -> list[tuple[int, str]]:
    return list(enumerate(STATUSES_BELOW))


def _profiles(periods: pl.DataFrame, session_ids: pl.Series, fleet: Fleet) -> Int:
    first = periods.unique("session_id", keep="first", maintain_order=True)
    assert first["session_id"].equals(session_ids), "sessions are in the order of their first period"
    return indexed(first["profile"], list(fleet.profiles))


def _on(table: pl.DataFrame, gpus: Gpus) -> OnIntervals:
    """A GPU that never got ready was starting up all the time."""
    on = table.sort("gpu_id", "on_s").with_columns(pl.col("ready_s").fill_null(pl.col("off_s")))
    off_us = microseconds(on["off_s"])
    return OnIntervals(
        gpu_index=indexed(on["gpu_id"], gpus.gpu_id),
        on_us=microseconds(on["on_s"]),
        usable_us=np.minimum(microseconds(on["ready_s"]), off_us),
        off_us=off_us,
    )


def _below(stays: pl.DataFrame, session_ids: pl.Series, status: str, kind: int) -> Below:
    mine = stays.filter(pl.col("status") == status).sort("start_s", maintain_order=True)
    return Below(
        name=status,
        kind=kind,
        session_index=indexed(mine["session_id"], session_ids.to_list()),
        start_us=microseconds(mine["start_s"]),
        end_us=microseconds(mine["end_s"]),
    )


def _migrations(moves: pl.DataFrame, gpus: Gpus, session_ids: pl.Series, profile_of: Int) -> tuple[Moves, Int]:
    done = moves.filter((pl.col("kind") == "migrate") & (pl.col("result") == "done"))
    session = indexed(done["session_id"], session_ids.to_list())
    found = Moves(
        session_index=session,
        profile_index=profile_of[session],
        source_index=indexed(done["source"], gpus.gpu_id),
        target_index=indexed(done["target"], gpus.gpu_id),
        at_us=microseconds(done["end_s"]),
        dollars=np.zeros(done.height),  # a run pays for GPUs, nothing else
    )
    return found, microseconds(done["start_s"])


def _host_moves(moves: pl.DataFrame, gpus: Gpus) -> HostMoves:
    done = moves.filter(pl.col("kind").is_in(["resume", "offload"]) & (pl.col("result") == "done"))
    gpu = done.select(pl.coalesce("target", "source").alias("gpu"))["gpu"]
    return HostMoves(
        resumes=(done["kind"] == "resume").to_numpy(),
        gpu_index=indexed(gpu, gpus.gpu_id),
        start_us=microseconds(done["start_s"]),
        end_us=microseconds(done["end_s"]),
    )
