"""Plans to look at: schedules made up slot by slot, consistent in themselves, without a solver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms
from scheduler.offline_plan import (
    FRONTIER_SCHEMA,
    GPUS_SCHEMA,
    NEEDED_SCHEMA,
    PLACEMENTS_SCHEMA,
    Certificate,
    Objective,
    OfflinePlan,
    SolverReport,
)
from scheduler.report.schedule import schedule_of
from scheduler.report.series import cost_parts, edges_of, latency_series
from traces.trace import PERIODS_SCHEMA, SESSIONS_SCHEMA, Trace

PROFILE_MS = {
    "wan-1.3b-480p": [125.0 + 90.0 * n for n in range(1, 13)],
    "wan-1.3b-720p": [120.0 + 145.0 * n for n in range(1, 13)],
    "self-forcing-14b": [110.0 + 265.0 * n for n in range(1, 13)],
    "longlive-2-5b": [105.0 + 126.0 * n for n in range(1, 13)],
}


def a_fleet(
    profiles: Sequence[str] = ("wan-1.3b-480p",), pools: Mapping[str, int] | None = None, target_ms: float = 750.0
) -> Fleet:
    """`pools` is GPU type -> count, on nodes of 8."""
    pools = {"h100": 64} if pools is None else pools
    price = {"h100": 2.5, "l40s": 0.85, "b200": 4.9}
    slower = {"h100": 1.0, "l40s": 2.4, "b200": 0.6}
    body: dict[str, Any] = {
        "format": "epochal.fleet/1",
        "epoch_s": 5.0,
        "batching": "grouped",
        "gpu_types": {t: {"memory_gib": 80.0, "price_per_hour": price[t], "startup_s": 60.0} for t in pools},
        "pools": [{"gpu_type": t, "nodes": -(-n // 8), "gpus_per_node": 8} for t, n in pools.items()],
        "links": {"device_host_gb_s": 50.0, "device_device_gb_s": 300.0, "node_node_gb_s": 35.0, "latency_ms": 8.0},
        "default_profile": profiles[0],
        "profiles": {
            name: {
                "chunk_s": 0.75,
                "state_gib": 3.2,
                "latency_ms": {t: [round(ms * slower[t], 1) for ms in PROFILE_MS[name]] for t in pools},
            }
            for name in profiles
        },
        "target": {"chunk_latency_ms": target_ms, "first_chunk_ms": 3000.0},
    }
    return Fleet.model_validate(body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a made-up schedule looks."""

    horizon_s: float = 86_400.0
    active_s_mean: float = 240.0
    idle_s_mean: float = 20.0  # of a slot, between two sessions
    moves: int = 60
    unserved_share: float = 0.0  # of periods cut short
    base_share: float = 0.35  # of GPUs that are on all the time; the others are on around a daily peak
    slots: Mapping[str, int] | None = None  # GPU type -> sessions at once
    seed: int = 1


def a_plan(fleet: Fleet, shape: Shape) -> tuple[OfflinePlan, Trace]:
    """A schedule of the given shape with its trace; the figures are those of its placements."""
    rng = np.random.default_rng(shape.seed)
    gpus = _gpus(fleet, shape, rng)
    bars = _bars(fleet, shape, gpus, rng)
    trace, placements = _trace_and_placements(fleet, shape, bars, gpus, rng)
    needed = _needed(fleet, shape)
    plan = OfflinePlan(
        trace_name="evening-peak.parquet",
        trace_sha256="5f" * 32,
        sessions=trace.session_count,
        periods=trace.period_count,
        horizon_s=trace.horizon_us / 1e6,
        fleet=fleet,
        overrides={},
        minimize="cost",
        objective=_NOTHING,
        certificate=_CERTIFICATE,
        solver=SolverReport(
            name="sweep",
            end_reason="the gap of 0.01 % was not reached within 60 s",
            seed=0,
            versions={"highspy": "1.15.1"},
        ),
        seconds=12.3,
        gpus=gpus,
        placements=placements,
        needed=needed,
    )
    return _with_figures(plan, trace), trace


_NOTHING = Objective(
    total_dollars=0.0,
    gpu_dollars=0.0,
    move_dollars=0.0,
    gpu_hours=0.0,
    chunk_latency_ms_max=0.0,
    chunk_latency_ms_mean=0.0,
    late_session_seconds=0.0,
    unserved_session_seconds=0.0,
    migrations=0,
)
_CERTIFICATE = Certificate(
    status="feasible",
    method="Counting bound: the sessions of each instant over the most that one GPU serves on time, over epochs.",
    gap=0.0,
    bound_unserved_session_seconds=0.0,
    bound_late_session_seconds=0.0,
    bound_dollars=0.0,
)


def with_frontier(plan: OfflinePlan) -> OfflinePlan:
    """The same plan with a made-up frontier around its target."""
    target = np.array([300.0, 400.0, 500.0, 600.0, 750.0, 900.0, 1200.0])
    total = plan.objective.total_dollars * (750.0 / target) ** 0.8
    gap = np.array([0.031, 0.017, 0.008, 0.004, 0.0021, 0.0009, 0.0])
    rows = {
        "target_ms": target,
        "total_dollars": total,
        "bound_dollars": total * (1 - gap),
        "gap": gap,
        "status": ["feasible"] * 6 + ["optimal"],
    }
    return replace(plan, frontier=pl.DataFrame(rows, schema=FRONTIER_SCHEMA))


def minimizing_latency(plan: OfflinePlan) -> OfflinePlan:
    """The same plan as if its GPUs had been given and its latency minimised."""
    worst, mean = plan.objective.chunk_latency_ms_max, plan.objective.chunk_latency_ms_mean
    certificate = replace(
        plan.certificate,
        bound_dollars=None,
        bound_latency_ms=worst * 0.97,
        gap=0.03,
        bound_mean_latency_ms=mean * 0.9,
        gap_mean=0.1,
    )
    return replace(plan, minimize="latency", certificate=certificate)


def _gpus(fleet: Fleet, shape: Shape, rng: np.random.Generator) -> pl.DataFrame:
    rows: list[tuple[str, str, str, float, float]] = []
    epoch_s, day_s = fleet.epoch_s, 86_400.0
    for pool_index, pool in enumerate(fleet.pools):
        count = pool.nodes * pool.gpus_per_node
        startup_s = fleet.gpu_types[pool.gpu_type].startup_s
        end_s = -(-shape.horizon_s // epoch_s) * epoch_s
        for index in range(count):
            node = f"{pool_index}/{index // pool.gpus_per_node}"
            name = f"{node}/{index % pool.gpus_per_node}"
            share = index / count
            if share < shape.base_share or shape.horizon_s < 7200:
                rows.append((name, pool.gpu_type, node, -startup_s, end_s))
                continue
            half_s = 0.5 * day_s * (1 - share) * float(rng.uniform(0.7, 1.0))
            for day in range(-(-int(shape.horizon_s) // int(day_s))):
                peak_s = day * day_s + 0.62 * min(day_s, shape.horizon_s) + float(rng.normal(0, 1500))
                on_s = max(-startup_s, np.floor((peak_s - half_s) / epoch_s) * epoch_s)
                off_s = min(end_s, np.ceil((peak_s + half_s * 0.8) / epoch_s) * epoch_s)
                if off_s - on_s > startup_s + 600:
                    rows.append((name, pool.gpu_type, node, float(on_s), float(off_s)))
    return pl.DataFrame(rows, schema=GPUS_SCHEMA, orient="row")


def _bars(fleet: Fleet, shape: Shape, gpus: pl.DataFrame, rng: np.random.Generator) -> NDArray[np.float64]:
    """[n, 3]: row of `gpus`, start, end, in seconds; one after another in each slot."""
    found: list[NDArray[np.float64]] = []
    slots = dict.fromkeys(fleet.gpu_types, 6) if shape.slots is None else shape.slots
    for row, (_, gpu_type, _, on_s, off_s) in enumerate(gpus.iter_rows()):
        begin, end = on_s + fleet.gpu_types[gpu_type].startup_s, min(off_s, shape.horizon_s)
        for _ in range(slots[gpu_type]):
            count = int(1.3 * (end - begin) / (shape.active_s_mean + shape.idle_s_mean)) + 12
            active = 2.0 + rng.exponential(shape.active_s_mean, count)
            idle = rng.exponential(shape.idle_s_mean, count)
            starts = begin + np.cumsum(active + idle) - active
            keep = starts + active <= end
            if keep.any():
                found.append(np.column_stack([np.full(keep.sum(), row), starts[keep], starts[keep] + active[keep]]))
    return np.rint(np.concatenate(found) * 1e6).astype(np.float64) / 1e6


def _trace_and_placements(
    fleet: Fleet, shape: Shape, bars: NDArray[np.float64], gpus: pl.DataFrame, rng: np.random.Generator
) -> tuple[Trace, pl.DataFrame]:
    bars = bars[np.argsort(bars[:, 1], kind="stable")]
    count = len(bars)
    names = np.array([f"s{index:06d}" for index in range(count)])
    profiles = list(fleet.profiles)
    drawn = rng.choice(len(profiles), count, p=np.arange(len(profiles), 0, -1) / sum(range(len(profiles) + 1)))
    sessions = pl.DataFrame(
        {"session_id": names, "profile": [profiles[i] for i in drawn], "tenant": None, "priority": 0},
        schema=SESSIONS_SCHEMA,
    )
    microseconds = np.rint(bars[:, 1:] * 1e6).astype(np.int64)
    periods = pl.DataFrame(
        {"session_index": np.arange(count), "start_us": microseconds[:, 0], "end_us": microseconds[:, 1]},
        schema=PERIODS_SCHEMA,
    )
    trace = Trace(name="evening-peak.parquet", sha256="5f" * 32, sessions=sessions, periods=periods)
    gpu_ids = gpus["gpu_id"].to_numpy()
    gpu = gpu_ids[bars[:, 0].astype(int)]
    ends = bars[:, 2].copy()
    cut = rng.random(count) < shape.unserved_share
    ends[cut] = bars[cut, 1] + (bars[cut, 2] - bars[cut, 1]) * 0.6
    extra: list[tuple[str, str, float, float]] = []
    for index in rng.permutation(count):
        if len(extra) >= shape.moves:
            break
        at_s = np.ceil((bars[index, 1] + bars[index, 2]) / 2 / fleet.epoch_s) * fleet.epoch_s
        on = (
            (gpus["on_s"].to_numpy() + 60 <= at_s) & (gpus["off_s"].to_numpy() >= ends[index]) & (gpu_ids != gpu[index])
        )
        if not cut[index] and on.any() and bars[index, 1] < at_s < ends[index]:
            target = str(gpu_ids[rng.choice(np.flatnonzero(on))])
            extra.append((str(names[index]), target, float(at_s), float(ends[index])))
            ends[index] = at_s
    whole = pl.DataFrame(
        {"session_id": names, "gpu_id": gpu, "start_s": bars[:, 1], "end_s": ends}, schema=PLACEMENTS_SCHEMA
    )
    return trace, pl.concat([whole, pl.DataFrame(extra, schema=PLACEMENTS_SCHEMA, orient="row")])


def _needed(fleet: Fleet, shape: Shape) -> pl.DataFrame:
    epochs = int(shape.horizon_s // fleet.epoch_s)
    at_s = (np.arange(epochs) + 0.5) * fleet.epoch_s
    seats = [7.0, 4.0, 2.0, 5.0][: len(fleet.profiles)]
    weights = [[1.0 / s for s in seats]] * epochs
    type_weights = [[{"h100": 1.0, "l40s": 0.45, "b200": 1.6}[t] for t in fleet.gpu_types]] * epochs
    return pl.DataFrame(
        {"epoch": np.arange(epochs), "at_s": at_s, "weights": weights, "type_weights": type_weights},
        schema=NEEDED_SCHEMA,
    )


def _with_figures(plan: OfflinePlan, trace: Trace) -> OfflinePlan:
    schedule = schedule_of(plan, trace)
    latency = latency_series(schedule, edges_of(schedule))
    seconds = np.diff(latency.edges_us) / 1e6
    gpu_dollars = float(cost_parts(schedule).total.sum())
    weight = schedule.contents.sessions * (schedule.contents.end_us - schedule.contents.start_us)
    finite = np.isfinite(schedule.latency_ms)
    hours = (plan.gpus["off_s"] - plan.gpus["on_s"]).sum() / 3600
    move_dollars = float(schedule.moves.dollars.sum())
    total = gpu_dollars + move_dollars
    bound = total * 0.9966
    objective = Objective(
        total_dollars=total,
        gpu_dollars=gpu_dollars,
        move_dollars=move_dollars,
        gpu_hours=float(hours),
        chunk_latency_ms_max=float(schedule.latency_ms.max()),
        chunk_latency_ms_mean=float(np.average(schedule.latency_ms[finite], weights=weight[finite])),
        late_session_seconds=float((latency.late_mean * seconds).sum()),
        unserved_session_seconds=float((latency.unserved_mean * seconds).sum()),
        migrations=len(schedule.moves.at_us),
    )
    certificate = replace(
        plan.certificate,
        gap=(total - bound) / total,
        bound_dollars=bound,
        bound_late_session_seconds=objective.late_session_seconds * 0.5,
        bound_unserved_session_seconds=objective.unserved_session_seconds * 0.9,
    )
    return replace(plan, objective=objective, certificate=certificate)


def one_session_plan() -> tuple[OfflinePlan, Trace]:
    """One session, one GPU, and nothing wrong."""
    fleet = a_fleet(pools={"h100": 1})
    sessions = pl.DataFrame(
        {"session_id": ["only"], "profile": None, "tenant": None, "priority": 0}, schema=SESSIONS_SCHEMA
    )
    periods = pl.DataFrame({"session_index": [0], "start_us": [0], "end_us": [95_000_000]}, schema=PERIODS_SCHEMA)
    trace = Trace(name="one.csv", sha256="00" * 32, sessions=sessions, periods=periods)
    plan, _ = a_plan(fleet, Shape(horizon_s=600.0, moves=0))
    gpus = pl.DataFrame([("0/0/0", "h100", "0/0", -60.0, 95.0)], schema=GPUS_SCHEMA, orient="row")
    placements = pl.DataFrame([("only", "0/0/0", 0.0, 95.0)], schema=PLACEMENTS_SCHEMA, orient="row")
    needed = pl.DataFrame([(e, e * 5.0, [1.0], [7.0]) for e in range(19)], schema=NEEDED_SCHEMA, orient="row")
    plan = replace(
        plan,
        trace_name="one.csv",
        sessions=1,
        periods=1,
        horizon_s=95.0,
        gpus=gpus,
        placements=placements,
        needed=needed,
    )
    return _optimal(_with_figures(plan, trace)), trace


def _optimal(plan: OfflinePlan) -> OfflinePlan:
    certificate = replace(plan.certificate, status="optimal", gap=0.0, bound_dollars=plan.objective.total_dollars)
    return replace(plan, certificate=certificate)


def content_ms(fleet: Fleet, *counts: int) -> float:
    """f_g of one content on the fleet's first GPU type."""
    return float(chunk_latency_ms(fleet, next(iter(fleet.gpu_types)), np.array([counts]))[0])
