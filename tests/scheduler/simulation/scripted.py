"""A policy that follows a script, for runs whose figures are worked out by hand.

Decides what is answered when, and nothing else; must never look for a good plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scheduler.cluster import GpuId, NodeId, SessionId, Snapshot
from scheduler.fleet import Fleet
from scheduler.plan import Decision, GpuAim, Move, Plan, Report, TierReport
from scheduler.policy import Budget, Prepared
from scheduler.sizes import state_bytes
from tests.scheduler.clusters import gpu

TIER = TierReport(
    tier="serve", unit="sessions", before=0.0, value=0.0, bound=0.0, gap=0.0, proven=True, proof="by hand"
)
STEADY: Mapping[str, GpuAim] = {"off": "off", "starting": "keep", "ready": "keep", "draining": "drain", "lost": "off"}


class ScriptedPolicy:
    """At `now_s` the words of `script[now_s]`, nothing at other times; it remembers when it was asked.

    `"s1>0"` sends s1 to GPU 0 from wherever the snapshot has it, `"s1>"` to host memory, `"start 1"` and the like are
    aims. A `/` begins the next wave.
    """

    def __init__(self, fleet: Fleet, script: Mapping[float, str]) -> None:
        self._fleet, self._script = fleet, script
        self.asked: list[tuple[float, bool]] = []
        self.snapshots: list[Snapshot] = []

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        self.asked.append((now_s, budget.early))
        self.snapshots.append(snapshot)
        aims = {gpu_id: STEADY[one.status] for gpu_id, one in snapshot.gpus.items()}
        moves: list[Move] = []
        for wave, words in enumerate(self._script.get(now_s, "").split("/")):
            for word in words.split(","):
                name, is_move, target = word.strip().partition(">")
                if is_move:
                    moves.append(self._move(SessionId(name), gpu(int(target)) if target else None, snapshot, wave))
                elif name:
                    aim, _, index = name.partition(" ")
                    aims[gpu(int(index))] = _aim(aim)
        report = Report(solver="by hand", end_reason="done", tiers=(TIER,), stages=(), fallback=None)
        plan = Plan(version=len(self.asked), seats={}, gpus=aims, moves=tuple(moves))
        return Decision(plan=plan, report=report, next_step_s=now_s + self._fleet.epoch_s)

    def _move(self, session_id: SessionId, target: GpuId | None, snapshot: Snapshot, wave: int) -> Move:
        session = snapshot.sessions[session_id]
        source_node: NodeId | None = session.node if session.gpu is None else snapshot.gpus[session.gpu].node
        return Move(
            session_id=session_id,
            kind="offload" if target is None else "migrate" if session.gpu else "resume" if source_node else "place",
            source=session.gpu,
            target=target,
            source_node=source_node,
            target_node=source_node if target is None else snapshot.gpus[target].node,
            state_bytes=state_bytes(self._fleet, session.profile) if source_node else 0,
            wave=wave,
            reason="script",
        )


def scripted(
    fleet: Fleet, script: Mapping[float, str], *, gpus: int = 1, planning_s: float = 0.0
) -> tuple[ScriptedPolicy, Prepared]:
    """The policy and how it is run; the first `gpus` GPUs are ready at 0."""
    policy = ScriptedPolicy(fleet, script)
    return policy, Prepared(name="script", policy=policy, planning_s=planning_s, gpus_at_start={"h100": gpus})


def _aim(word: str) -> GpuAim:
    found: Sequence[GpuAim] = ("start", "keep", "drain", "stop")
    return next(aim for aim in found if aim == word)
