"""Two policies for trying simulators: one decides by chance, one places everybody where least is going on.

Decides plans, valid ones unless chance is to be reckless; must never know how they are carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from scheduler.cluster import GpuId, NodeId, Session, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision, GpuAim, Move, Plan, Report, Seat, TierReport
from scheduler.plan_check import check_plan
from scheduler.planner_settings import MoveLimits
from scheduler.policy import Budget
from scheduler.seats import place_of
from scheduler.sizes import state_bytes

T = TypeVar("T")

MANY = MoveLimits(gpu_in=99, gpu_out=99, device_host=99, device_device=99, node_node=99)
STEADY: Mapping[str, GpuAim] = {"off": "off", "starting": "keep", "ready": "keep", "draining": "drain", "lost": "off"}
AIMS: Mapping[str, tuple[GpuAim, ...]] = {
    "off": ("start", "off"),
    "starting": ("keep", "keep", "stop"),
    "ready": ("keep", "keep", "keep", "keep", "drain", "stop"),
    "draining": ("keep", "drain", "stop"),
    "lost": ("off",),
}


class ChaosPolicy:
    """Random aims and moves in waves; equal snapshots in an equal order give equal plans.

    A reckless one does not look whether its plan is valid, except that it sends nobody to a GPU type without figures
    for its profile.
    """

    def __init__(self, fleet: Fleet, seed: int, *, reckless: bool) -> None:
        self._fleet, self._rng, self._reckless = fleet, np.random.default_rng(seed), reckless
        self._version = 0

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        rng = self._rng
        self._version += int(rng.integers(0, 2))
        gpus = {gpu_id: self._among(AIMS[gpu.status]) for gpu_id, gpu in snapshot.gpus.items()}
        if rng.random() < 0.5:
            gpus = {gpu_id: STEADY[gpu.status] for gpu_id, gpu in snapshot.gpus.items()}
        if not self._reckless:
            held = {place_of(session, snapshot).gpu for session in snapshot.sessions.values()}
            held |= {move.source for move in snapshot.moves.values()}
            gpus = {gpu_id: "drain" if aim == "stop" and gpu_id in held else aim for gpu_id, aim in gpus.items()}
        plan = _planned(self._version, snapshot, gpus, ())
        for index in rng.permutation(len(snapshot.sessions)):
            session = list(snapshot.sessions.values())[index]
            move = self._move(session, snapshot)
            if move is None:
                continue
            moves = tuple(sorted((*plan.moves, move), key=lambda one: one.wave))
            grown = _planned(self._version, snapshot, gpus, moves)
            if self._reckless or not check_plan(snapshot, self._fleet, grown, MANY):
                plan = grown
        assert self._reckless or not check_plan(snapshot, self._fleet, plan, MANY)
        return Decision(
            plan=plan,
            report=self._report(),
            next_step_s=now_s + float(rng.choice([0.0, 0.1, 0.7, self._fleet.epoch_s, np.inf])),
            scale_in_wanted={name: bool(rng.integers(0, 2)) for name in self._fleet.gpu_types if not budget.early},
        )

    def _move(self, session: Session, snapshot: Snapshot) -> Move | None:
        """A random one of a session; None: it stays."""
        here = place_of(session, snapshot)
        wave = int(self._rng.integers(0, 4))
        able = [
            gpu_id
            for gpu_id, gpu in snapshot.gpus.items()
            if gpu.status == "ready" and _has_figures(self._fleet, session.profile, gpu.gpu_type) and gpu_id != here.gpu
        ]
        target = self._among(able) if able else None
        if here.gpu is not None:
            if self._rng.random() < 0.6:
                return None
            if self._rng.random() < 0.4 or target is None:
                target = None
        elif target is None or session.status in ("idle", "suspended"):
            return None
        return _move_to(session, here, target, snapshot, self._fleet, wave=wave, reason=f"chance {wave}")

    def _report(self) -> Report:
        gap = self._among((0.0, 0.1, 0.25, 0.3))
        tier = TierReport(
            tier="serve",
            unit="sessions",
            before=1.0,
            value=1.0,
            bound=1.0 - gap,
            gap=gap,
            proven=gap == 0.0,
            proof=self._among(("", "counting")),
        )
        return Report(
            solver=self._among(("chance", "fate")),
            end_reason="done",
            tiers=(tier,),
            stages=(),
            fallback=self._among((None, None, "no luck")),
        )

    def _among(self, options: Sequence[T]) -> T:
        return options[int(self._rng.integers(len(options)))]


class SensiblePolicy:
    """Everybody who waits goes to the GPU with fewest sessions that takes them; GPUs start while somebody waits.

    At epoch boundaries GPUs that are empty are drained, and idle sessions are offloaded where somebody waits.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._version = fleet, 0

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        self._version += 1
        gpus = {gpu_id: STEADY[gpu.status] for gpu_id, gpu in snapshot.gpus.items()}
        plan = _planned(self._version, snapshot, gpus, ())
        waiting = [
            s for s in snapshot.sessions.values() if s.status == "waiting" and s.session_id not in snapshot.moves
        ]
        for session in sorted(waiting, key=lambda s: (s.since_s, s.session_id)):
            plan = self._placed(plan, session, snapshot)
        placed = {move.session_id for move in plan.moves}
        if any(session.session_id not in placed for session in waiting):
            off = [
                gpu_id for gpu_id, aim in plan.gpus.items() if aim == "off" and snapshot.gpus[gpu_id].status == "off"
            ]
            plan = replace(plan, gpus={**plan.gpus, **dict.fromkeys(off[:1], "start")})
            idle = [s for s in snapshot.sessions.values() if s.status == "idle" and s.session_id not in snapshot.moves]
            for session in idle:
                plan = self._grown(plan, session, None, snapshot) or plan
        elif not budget.early:
            held = {seat.gpu for seat in plan.seats.values()}
            empty = [gpu_id for gpu_id, aim in plan.gpus.items() if aim == "keep" and gpu_id not in held]
            plan = replace(plan, gpus={**plan.gpus, **dict.fromkeys(empty[:1], "drain")})
        tier = TierReport(
            tier="serve", unit="sessions", before=0.0, value=0.0, bound=0.0, gap=0.0, proven=True, proof="counting"
        )
        report = Report(solver="least loaded", end_reason="done", tiers=(tier,), stages=(), fallback=None)
        return Decision(plan=plan, report=report, next_step_s=now_s + self._fleet.epoch_s)

    def _placed(self, plan: Plan, session: Session, snapshot: Snapshot) -> Plan:
        load = Counter(seat.gpu for seat in plan.seats.values())
        for gpu_id in sorted(snapshot.gpus, key=lambda gpu_id: (load[gpu_id], gpu_id)):
            grown = self._grown(plan, session, gpu_id, snapshot)
            if grown is not None:
                return grown
        return plan

    def _grown(self, plan: Plan, session: Session, target: GpuId | None, snapshot: Snapshot) -> Plan | None:
        """The plan with one move more; None: it would not be valid."""
        here = place_of(session, snapshot)
        move = _move_to(session, here, target, snapshot, self._fleet, wave=0, reason="waiting")
        grown = _planned(plan.version, snapshot, plan.gpus, (*plan.moves, move))
        return None if check_plan(snapshot, self._fleet, grown, MANY) else grown


def _has_figures(fleet: Fleet, profile: str, gpu_type: str) -> bool:
    own = fleet.profiles[profile]
    return any(gpu_type in table for table in (own.latency_ms, own.per_session_ms, own.base_ms) if table is not None)


def _move_to(
    session: Session, here: Seat, target: GpuId | None, snapshot: Snapshot, fleet: Fleet, *, wave: int, reason: str
) -> Move:
    source_node: NodeId | None = snapshot.gpus[here.gpu].node if here.gpu is not None else here.node
    away = here.gpu is not None
    return Move(
        session_id=session.session_id,
        kind="offload" if target is None else "migrate" if away else "place" if here.node is None else "resume",
        source=here.gpu,
        target=target,
        source_node=source_node,
        target_node=source_node if target is None else snapshot.gpus[target].node,
        state_bytes=0 if source_node is None else state_bytes(fleet, session.profile),
        wave=wave,
        reason=reason,
    )


def _planned(version: int, snapshot: Snapshot, gpus: Mapping[GpuId, GpuAim], moves: tuple[Move, ...]) -> Plan:
    seats: dict[SessionId, Seat] = {name: place_of(session, snapshot) for name, session in snapshot.sessions.items()}
    for move in moves:
        seats[move.session_id] = Seat(node=move.target_node) if move.target is None else Seat(gpu=move.target)
    return Plan(version=version, seats=seats, gpus=dict(gpus), moves=moves)
