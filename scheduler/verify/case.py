"""The plan, its trace and its fleet as arrays of whole microseconds and indexes.

Decides which rows of the tables make sense at all; must never judge what they add up to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from scheduler.fleet import Fleet
from scheduler.offline_plan import OfflinePlan
from scheduler.verify.sweep import Bools, Ints, examples, microseconds
from traces.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """Spans in which GPUs are paid; `ids`, `type_index` and `node` are per GPU, the rest is per span."""

    ids: list[str]
    type_index: Ints  # of the GPU's first span
    node: list[str]
    gpu: Ints  # index into ids
    span_type: Ints
    span_node: list[str]
    on_us: Ints
    off_us: Ints
    usable_us: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Sessions and their active periods."""

    session_ids: pl.Series
    profile: Ints  # per session; all 0 where the fleet has one profile
    priority: Ints  # per session
    session: Ints  # per period, sorted by (session, start)
    start_us: Ints
    end_us: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Placements, sorted by (session, start)."""

    session: Ints
    gpu: Ints
    start_us: Ints
    end_us: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that is checked. Without a trace the demand is what the placements cover."""

    fleet: Fleet
    plan: OfflinePlan
    epoch_us: int
    horizon_us: int
    gpus: Gpus
    demand: Demand
    placed: Placed
    has_trace: bool
    profiles_known: bool  # of the sessions: from the trace, or because the fleet has one
    findings: tuple[str, ...] = field(default=())  # rows that make no sense and are left out

    @property
    def profile_of_row(self) -> Ints:
        return self.demand.profile[self.placed.session]

    def session_name(self, session: int | np.int64) -> str:
        return f"session {self.demand.session_ids[int(session)]}"

    def gpu_name(self, gpu: int | np.int64) -> str:
        return f"GPU {self.gpus.ids[int(gpu)]}"


def case_of(trace: Trace | None, fleet: Fleet, plan: OfflinePlan) -> Case:
    """Index everything; rows with unknown names or impossible times become findings."""
    findings: list[str] = []
    gpus = _gpus(fleet, plan.gpus, findings)
    rows = plan.placements.with_row_index("row")
    index = pl.DataFrame({"gpu_id": pl.Series(gpus.ids, dtype=pl.String), "gpu": np.arange(len(gpus.ids))})
    rows = rows.join(index, on="gpu_id", how="left")
    if trace is None:
        names = rows.select(pl.col("session_id").unique(maintain_order=True))
    else:
        names = trace.sessions.select("session_id")
    rows = rows.join(names.with_row_index("session"), on="session_id", how="left")
    placed = _placed(rows.sort("row"), findings)
    demand = _demand_of(trace, fleet, findings) if trace is not None else _demand_placed(names, placed)
    return Case(
        fleet=fleet,
        plan=plan,
        epoch_us=round(fleet.epoch_s * 1e6),
        horizon_us=trace.horizon_us if trace is not None else round(plan.horizon_s * 1e6),
        gpus=gpus,
        demand=demand,
        placed=placed,
        has_trace=trace is not None,
        profiles_known=trace is not None or len(fleet.profiles) == 1,
        findings=tuple(findings),
    )


def _gpus(fleet: Fleet, table: pl.DataFrame, findings: list[str]) -> Gpus:
    types = {name: index for index, name in enumerate(fleet.gpu_types)}
    names = table["gpu_type"].to_list()
    known = np.array([name in types for name in names], dtype=np.bool_)
    ids = table["gpu_id"]
    findings += examples(~known, lambda i: f"gpus.parquet: GPU {ids[i]} is of unknown type {names[i]}")
    sane = _finite(table, ("on_s", "off_s"))
    findings += examples(~sane, lambda i: f"gpus.parquet: GPU {ids[i]} has an on_s or off_s that is no number")
    table = table.filter(pl.Series(known & sane, dtype=pl.Boolean))
    distinct = table["gpu_id"].unique(maintain_order=True)
    code = table.join(distinct.to_frame().with_row_index("gpu"), on="gpu_id", how="left", maintain_order="left")
    gpu = code["gpu"].to_numpy().astype(np.int64)
    span_type = np.array([types[name] for name in table["gpu_type"]], dtype=np.int64)
    first = np.unique(gpu, return_index=True)[1]
    startup_us = np.array([round(kind.startup_s * 1e6) for kind in fleet.gpu_types.values()], dtype=np.int64)
    span_node = table["node"].to_list()
    on_us = microseconds(table["on_s"])
    return Gpus(
        ids=distinct.to_list(),
        type_index=span_type[first],
        node=[span_node[i] for i in first],
        gpu=gpu,
        span_type=span_type,
        span_node=span_node,
        on_us=on_us,
        off_us=microseconds(table["off_s"]),
        usable_us=on_us + startup_us[span_type],
    )


def _placed(rows: pl.DataFrame, findings: list[str]) -> Placed:
    session, gpu = rows["session_id"], rows["gpu_id"]
    masks = (
        (rows["session"].is_null().to_numpy(), lambda i: f"session {session[i]} is placed but not in the trace"),
        (rows["gpu"].is_null().to_numpy(), lambda i: f"session {session[i]} is placed on unknown GPU {gpu[i]}"),
        (
            ~_finite(rows, ("start_s", "end_s")),
            lambda i: f"session {session[i]} has a placement whose time is no number",
        ),
    )
    good = np.ones(rows.height, dtype=np.bool_)
    for wrong, tell in masks:
        findings += examples(wrong, tell)
        good &= ~wrong
    rows = rows.filter(pl.Series(good, dtype=pl.Boolean))
    start_us, end_us = microseconds(rows["start_s"]), microseconds(rows["end_s"])
    index = rows["session"].to_numpy().astype(np.int64)
    order = np.lexsort((end_us, start_us, index))
    target = rows["gpu"].to_numpy().astype(np.int64)
    return Placed(session=index[order], gpu=target[order], start_us=start_us[order], end_us=end_us[order])


def _demand_of(trace: Trace, fleet: Fleet, findings: list[str]) -> Demand:
    profiles = {name: index for index, name in enumerate(fleet.profiles)}
    default = fleet.default_profile or next(iter(profiles))
    if fleet.default_profile is None and len(profiles) > 1 and trace.sessions["profile"].null_count():
        findings.append("the trace has sessions without a profile, and the fleet no default_profile")
    names = trace.sessions["profile"].fill_null(default)
    unknown = names.is_in(list(profiles)).not_().to_numpy()
    ids = trace.sessions["session_id"]
    findings += examples(unknown, lambda i: f"session {ids[i]} has profile {names[i]}, which the fleet has not")
    session = trace.periods["session_index"].to_numpy().astype(np.int64)
    start_us, end_us = trace.periods["start_us"].to_numpy(), trace.periods["end_us"].to_numpy()
    order = np.lexsort((start_us, session))
    return Demand(
        session_ids=ids,
        profile=names.replace_strict(profiles, default=0, return_dtype=pl.Int64).to_numpy(),
        priority=trace.sessions["priority"].to_numpy().astype(np.int64),
        session=session[order],
        start_us=start_us[order],
        end_us=end_us[order],
    )


def _demand_placed(names: pl.DataFrame, placed: Placed) -> Demand:
    """Touching placements of a session are one period."""
    nothing = np.zeros(names.height, dtype=np.int64)
    fresh = np.ones(placed.session.size, dtype=np.bool_)
    fresh[1:] = (placed.session[1:] != placed.session[:-1]) | (placed.start_us[1:] > placed.end_us[:-1])
    first = np.flatnonzero(fresh)
    last = np.append(first[1:], fresh.size) - 1 if first.size else first
    return Demand(
        session_ids=names["session_id"],
        profile=nothing,
        priority=nothing,
        session=placed.session[first],
        start_us=placed.start_us[first],
        end_us=placed.end_us[last],
    )


def _finite(table: pl.DataFrame, columns: tuple[str, ...]) -> Bools:
    good = np.ones(table.height, dtype=np.bool_)
    for name in columns:
        good &= np.isfinite(table[name].to_numpy())
    return good


def names_of_nodes(fleet: Fleet) -> Iterator[tuple[str, int]]:
    """Every node of the fleet as ("<pool index>/<node index>", pool index)."""
    for pool_index, pool in enumerate(fleet.pools):
        for node_index in range(pool.nodes):
            yield f"{pool_index}/{node_index}", pool_index
