"""The simplest policy that serves people: a fixed fleet, and whoever waits goes to the least loaded GPU.

Decides what benchmarks and tests of the simulator run; must never know the future, or move anybody who plays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from scheduler.cluster import GpuId, Session, Snapshot
from scheduler.cluster_checks import held_mib
from scheduler.fleet import Fleet
from scheduler.latency import seats
from scheduler.plan import Decision, Move, Plan, Report
from scheduler.policy import Budget
from scheduler.sizes import room_mib, state_bytes, state_mib

_REPORT = Report(solver="least loaded", end_reason="done", tiers=(), stages=(), fallback=None)
_FULL = 1.0 + 1e-9


class LeastLoaded:
    """A session loads a GPU by 1 / (sessions of its profile that are on time there); no GPU is loaded beyond 1.

    Idle sessions leave, who idles longest first, where memory is needed; with `suspends` all of them leave at once, so
    that every return is a step and a transfer.
    """

    def __init__(self, fleet: Fleet, *, suspends: bool = False) -> None:
        self._fleet, self._suspends = fleet, suspends
        self._share = {
            gpu_type: {
                name: 1.0 / count if count else float("inf")
                for name, count in zip(fleet.profiles, seats(fleet, gpu_type).tolist(), strict=True)
            }
            for gpu_type in fleet.gpu_types
        }
        self._mib = {name: state_mib(fleet, name) for name in fleet.profiles}
        self._room = {gpu_type: room_mib(fleet, gpu_type) for gpu_type in fleet.gpu_types}

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        del budget
        waiting = [
            s for s in snapshot.sessions.values() if s.status == "waiting" and s.session_id not in snapshot.moves
        ]
        moves = list(self._moves(snapshot, waiting)) if waiting else []
        if self._suspends:
            gone = {move.session_id for move in moves} | snapshot.moves.keys()
            idle = (s for s in snapshot.sessions.values() if s.status == "idle" and s.session_id not in gone)
            moves = [*(self._move(session, snapshot, None, 0) for session in idle), *moves]
        plan = Plan(version=snapshot.version + bool(moves), seats={}, gpus={}, moves=tuple(moves))
        return Decision(plan=plan, report=_REPORT, next_step_s=now_s + self._fleet.epoch_s)

    def _moves(self, snapshot: Snapshot, waiting: list[Session]) -> Iterator[Move]:
        waiting.sort(key=lambda session: (-session.priority, session.since_s))
        gpus = {name: gpu for name, gpu in snapshot.gpus.items() if gpu.status == "ready"}
        load = dict.fromkeys(gpus, 0.0)
        idle: dict[GpuId, list[Session]] = defaultdict(list)
        for session in snapshot.sessions.values():
            if session.gpu in load:
                if session.status == "active":
                    load[session.gpu] += self._share[gpus[session.gpu].gpu_type][session.profile]
                elif session.session_id not in snapshot.moves:
                    idle[session.gpu].append(session)
        for move in snapshot.moves.values():
            if move.target in load:
                profile = snapshot.sessions[move.session_id].profile
                load[move.target] += self._share[gpus[move.target].gpu_type][profile]
        held, _ = held_mib(snapshot, self._fleet)
        later: list[Move] = []
        for session in waiting:
            for name in sorted(load, key=load.__getitem__):
                share = self._share[gpus[name].gpu_type][session.profile]
                missing = held.get(name, 0) + self._mib[session.profile] - self._room[gpus[name].gpu_type]
                if load[name] + share > _FULL or missing > sum(self._mib[s.profile] for s in idle[name]):
                    continue
                wave = int(missing > 0)
                idle[name].sort(key=lambda session: -session.since_s)
                while missing > 0:
                    gone = idle[name].pop()
                    missing -= self._mib[gone.profile]
                    held[name] -= self._mib[gone.profile]
                    yield self._move(gone, snapshot, None, 0)
                load[name] += share
                held[name] = held.get(name, 0) + self._mib[session.profile]
                later.append(self._move(session, snapshot, name, wave))
                break
        yield from sorted(later, key=lambda move: move.wave)

    def _move(self, session: Session, snapshot: Snapshot, target: GpuId | None, wave: int) -> Move:
        own_node = snapshot.gpus[session.gpu].node if session.gpu is not None else session.node
        return Move(
            session_id=session.session_id,
            kind="offload" if target is None else "place" if own_node is None else "resume",
            source=session.gpu,
            target=target,
            source_node=own_node,
            target_node=own_node if target is None else snapshot.gpus[target].node,
            state_bytes=0 if own_node is None else state_bytes(self._fleet, session.profile),
            wave=wave,
            reason="memory" if target is None else "waiting",
        )
