"""A trace and a fleet as numbers for the offline solvers, and the way back from indexes to names.

Decides which profiles and GPUs take part and in which order; must never know how the problem is solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from scheduler.fleet import Budget, Fleet
from scheduler.state import FleetState
from scheduler.transfers import transfer_s
from solvers.contents import RoundCosts, TypeLimits
from solvers.offline_problem import NEVER_ON, UNLIMITED, MoveBudget, OfflineProblem
from traces.errors import BadInputError, Finding
from traces.trace import Trace

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Formulated:
    """An offline problem, and what its indexes mean."""

    problem: OfflineProblem
    profiles: tuple[str, ...]  # by class index: the profiles in use, in the fleet's order
    gpu_types: tuple[str, ...]  # by type index: those of the pools, in the fleet's order
    gpu_ids: tuple[str, ...]  # by GPU index
    gpu_nodes: tuple[str, ...]  # by GPU index
    session_ids: pl.Series = field(repr=False)  # by period index


def formulate(trace: Trace, fleet: Fleet, *, gpus: Mapping[str, int] | None, state: FleetState | None) -> Formulated:
    """Scale everything once into the solvers' numbers.

    `gpus` fixes the GPUs of each type, on throughout (latency mode). Raises `BadInputError` for sessions without a
    profile, unknown profiles, and profiles that fit on no GPU of the pools.
    """
    class_of_session, profiles = session_classes(trace, fleet)
    sessions = trace.periods["session_index"].to_numpy()
    start_us = trace.periods["start_us"].to_numpy().astype(np.int64)
    end_us = trace.periods["end_us"].to_numpy().astype(np.int64)
    epoch_us = round(fleet.epoch_s * MICROSECONDS)
    gpu_types = tuple(t for t in fleet.gpu_types if any(pool.gpu_type == t for pool in fleet.pools))
    if gpus is not None:
        gpu_types = tuple(t for t in gpu_types if gpus.get(t, 0) > 0)
    types = tuple(type_limits(fleet, t, profiles) for t in gpu_types)
    _refuse_homeless(trace, fleet, types, profiles)
    slots = _slots(fleet, gpu_types, gpus, state, _peak(start_us, end_us))
    homes = _homes(trace, state, slots)
    startup_us = tuple(round(fleet.gpu_types[t].startup_s * MICROSECONDS) for t in gpu_types)
    problem = OfflineProblem(
        start_us=start_us,
        end_us=end_us,
        class_index=class_of_session[sessions].astype(np.int32),
        priority=trace.sessions["priority"].to_numpy()[sessions].astype(np.int32),
        home=homes,
        epoch_us=epoch_us,
        epochs=int(-(-trace.horizon_us // epoch_us)),
        types=types,
        target_ms=tuple(fleet.target_ms(p) for p in profiles),
        state_gib=tuple(fleet.profiles[p].state_gib for p in profiles),
        price_per_hour=tuple(fleet.gpu_types[t].price_per_hour for t in gpu_types),
        startup_us=startup_us,
        gpu_type=np.array([gpu_types.index(s.gpu_type) for s in slots], dtype=np.int32),
        gpu_node=np.unique([s.node for s in slots], return_inverse=True)[1].astype(np.int32),
        gpu_always_on=np.array([s.always_on for s in slots], dtype=np.bool_),
        gpu_on_us=np.array([s.on_us for s in slots], dtype=np.int64),
        earliest_on_us=0 if state is not None else -(2**62),
        transfer_same_s=tuple(transfer_s(fleet, p, same_node=True) for p in profiles),
        transfer_cross_s=tuple(transfer_s(fleet, p, same_node=False) for p in profiles),
        budget=_budget(fleet.budget),
    )
    return Formulated(
        problem=problem,
        profiles=profiles,
        gpu_types=gpu_types,
        gpu_ids=tuple(s.gpu_id for s in slots),
        gpu_nodes=tuple(s.node for s in slots),
        session_ids=trace.sessions["session_id"].gather(sessions),
    )


def session_classes(trace: Trace, fleet: Fleet) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Class index of every session, and the profiles in use."""
    default = fleet.default_profile or (next(iter(fleet.profiles)) if len(fleet.profiles) == 1 else None)
    named = trace.sessions["profile"]
    if default is None and named.null_count():
        raise BadInputError.of(
            trace.name,
            f"profile= is empty for {named.null_count()} sessions; it must be given, or the fleet must name a "
            "default_profile",
        )
    named = named.fill_null(default) if default is not None else named
    used = named.unique().to_list()
    unknown = sorted(set(used) - fleet.profiles.keys())
    if unknown:
        known = ", ".join(fleet.profiles)
        counts = named.value_counts()
        findings = [
            Finding(
                source=trace.name,
                message=f"profile={name!r} ({counts.filter(pl.first() == name).item(0, 1)} sessions) must be one of "
                f"the fleet's profiles: {known}",
            )
            for name in unknown
        ]
        raise BadInputError(findings)
    profiles = tuple(p for p in fleet.profiles if p in set(used))
    index = {name: k for k, name in enumerate(profiles)}
    return named.replace_strict(index, return_dtype=pl.Int64).to_numpy(), profiles


def type_limits(fleet: Fleet, gpu_type: str, profiles: Sequence[str]) -> TypeLimits:
    """What a GPU of this type can hold, in the solvers' terms."""
    own = fleet.gpu_types[gpu_type]
    chosen = [fleet.profiles[p] for p in profiles]
    if fleet.batching == "grouped":
        costs = RoundCosts(
            batching="grouped", tables_ms=tuple(tuple((p.latency_ms or {}).get(gpu_type, ())) for p in chosen)
        )
    elif fleet.batching == "packed":
        packed = (fleet.packed or {}).get(gpu_type)
        costs = RoundCosts(
            batching="packed",
            fixed_ms=packed.fixed_ms if packed else 0.0,
            per_session_ms=tuple((p.per_session_ms or {}).get(gpu_type, np.inf) for p in chosen),
            sessions_max=packed.sessions_max if packed else 0,
        )
    else:
        crowding = tuple((fleet.crowding_ms or {}).get(gpu_type, ()))
        costs = RoundCosts(
            batching="turboserve",
            base_ms=tuple((p.base_ms or {}).get(gpu_type, np.inf) for p in chosen),
            crowding_ms=crowding,
            sessions_max=len(crowding),
        )
    return TypeLimits(
        costs=costs, memory_gib=own.memory_gib - own.weights_gib, state_gib=tuple(p.state_gib for p in chosen)
    )


def _refuse_homeless(trace: Trace, fleet: Fleet, types: Sequence[TypeLimits], profiles: Sequence[str]) -> None:
    """A session that no GPU can run alone, late or not, can never be served."""
    alone = np.eye(len(profiles), dtype=np.int32)
    fits = np.zeros(len(profiles), dtype=np.bool_)
    for limits in types:
        fits |= np.isfinite(limits.costs.latency_ms(alone)) & (
            limits.memory_used_gib(alone) <= limits.memory_gib + 1e-9
        )
    findings = [
        Finding(
            source=trace.name,
            message=f"profile={name!r} fits on no GPU that may be used, not even alone: its figures and its "
            f"state_gib={fleet.profiles[name].state_gib:g} must suit one of the GPU types",
        )
        for name, ok in zip(profiles, fits, strict=True)
        if not ok
    ]
    if findings:
        raise BadInputError(findings)


@dataclass(frozen=True, slots=True)
class _Slot:
    """One physical GPU."""

    gpu_id: str
    gpu_type: str
    node: str
    always_on: bool
    on_us: int


def _slots(
    fleet: Fleet, gpu_types: Sequence[str], gpus: Mapping[str, int] | None, state: FleetState | None, peak: int
) -> list[_Slot]:
    """GPUs of each type in the order of preference: always on, on already, then pool by pool and node by node.

    No type needs more GPUs than sessions are ever active at once.
    """
    slots: list[_Slot] = []
    for gpu_type in gpu_types:
        mine: list[_Slot] = []
        limit = None if gpus is None else gpus[gpu_type]
        for pool_index, pool in enumerate(fleet.pools):
            if pool.gpu_type != gpu_type:
                continue
            on = _on_already(state, pool_index, pool.gpus_per_node)
            always = 0
            for node in range(pool.nodes):
                for place in range(pool.gpus_per_node):
                    name = f"{pool_index}/{node}"
                    known = on.get((node, place))
                    always_on = limit is not None or always < pool.gpus_min
                    always += 1
                    mine.append(
                        _Slot(
                            known[0] if known else f"{gpu_type}-{name.replace('/', '-')}-{place}",
                            gpu_type,
                            name,
                            always_on,
                            known[1] if known else NEVER_ON,
                        )
                    )
        mine.sort(key=lambda slot: (not slot.always_on, slot.on_us == NEVER_ON))
        if limit is not None:
            slots += mine[:limit]
        else:
            kept = sum(1 for slot in mine if slot.always_on or slot.on_us != NEVER_ON)
            slots += mine[: kept + peak]
    return slots


def _on_already(
    state: FleetState | None, pool_index: int, gpus_per_node: int
) -> dict[tuple[int, int], tuple[str, int]]:
    """GPUs of the state in this pool, by node and place in the node: id and when it was switched on."""
    found: dict[tuple[int, int], tuple[str, int]] = {}
    for gpu in state.gpus if state is not None else []:
        pool, _, node = gpu.node.partition("/")
        if int(pool) == pool_index:
            place = sum(1 for other, _ in found if other == int(node))
            assert place < gpus_per_node, "a validated state fits its pools"
            found[int(node), place] = (gpu.gpu_id, round(gpu.on_s * MICROSECONDS))
    return found


def _homes(trace: Trace, state: FleetState | None, slots: Sequence[_Slot]) -> npt.NDArray[np.int32]:
    """The GPU on which each period starts, for sessions that are active and placed at time 0."""
    homes = np.full(trace.period_count, -1, dtype=np.int32)
    if state is None or not state.sessions:
        return homes
    index = {slot.gpu_id: i for i, slot in enumerate(slots)}
    placed = {s.session_id: index[s.gpu_id] for s in state.sessions}
    at_zero = np.flatnonzero(trace.periods["start_us"].to_numpy() == 0)
    sessions = trace.periods["session_index"].to_numpy()[at_zero]
    ids = trace.sessions["session_id"].gather(sessions).to_list()
    for period, session_id in zip(at_zero, ids, strict=True):
        homes[period] = placed.get(session_id, -1)
    return homes


def _peak(start_us: npt.NDArray[np.int64], end_us: npt.NDArray[np.int64]) -> int:
    active = np.arange(1, len(start_us) + 1) - np.searchsorted(np.sort(end_us), np.sort(start_us), side="right")
    return int(active.max(initial=0))


def _budget(budget: Budget) -> MoveBudget:
    def count(value: int | None) -> int:
        return UNLIMITED if value is None else value

    return MoveBudget(
        moves=count(budget.moves_per_epoch),
        out_per_gpu=count(budget.moves_out_per_gpu),
        in_per_gpu=count(budget.moves_in_per_gpu),
        gib=float("inf") if budget.gib_per_epoch is None else budget.gib_per_epoch,
    )
