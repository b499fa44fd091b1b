"""Plans that nobody sensible would make: sessions are moved about at random, some moves cannot even begin, and GPUs are
to be stopped whoever is there.

Decides what is asked for; must never know what of that applies: whoever carries a plan out has to find that out.
"""

from __future__ import annotations

import random
from dataclasses import replace

from bench.world.fleet import FLEET
from scheduler.cluster import Gpu, Session, Snapshot
from scheduler.plan import Decision, Move
from scheduler.sizes import state_bytes

STOP_CHANCE = 0.2  # that a plan asks for some GPU to be stopped
MIGRATIONS_MAX = 1  # of one plan: with one that began meanwhile, what the budget allows into and out of one GPU


def restless(decision: Decision, snapshot: Snapshot, chance: random.Random) -> Decision:
    """The decision with moves of another kind, and perhaps a GPU that is to stop."""
    gpus = sorted(snapshot.gpus.values(), key=lambda gpu: gpu.gpu_id)
    sessions = sorted(snapshot.sessions.values(), key=lambda session: session.session_id)
    chance.shuffle(sessions)
    wanted = [_move(session, chance.choice(gpus), snapshot, chance) for session in sessions]
    moves, migrations = list[Move](), len(snapshot.history.migrated_now) + len(snapshot.moves)
    for move in sorted(filter(None, wanted), key=lambda move: move.wave):
        migrations += move.kind == "migrate"
        if move.kind != "migrate" or migrations <= MIGRATIONS_MAX:
            moves.append(move)
    aims = dict(decision.plan.gpus)
    if chance.random() < STOP_CHANCE:
        aims[chance.choice(gpus).gpu_id] = "stop"
    return replace(decision, plan=replace(decision.plan, moves=tuple(moves), gpus=aims))


def _move(session: Session, gpu: Gpu, snapshot: Snapshot, chance: random.Random) -> Move | None:
    if chance.random() < 0.4:
        return None
    move = Move(
        session_id=session.session_id,
        kind="place",
        source=session.gpu,
        target=gpu.gpu_id,
        source_node=session.node,
        target_node=gpu.node,
        state_bytes=state_bytes(FLEET, session.profile),
        wave=chance.randrange(3),
        reason="balance",
    )
    if session.gpu is None:
        return move if session.node is None else replace(move, kind="resume")
    home = snapshot.gpus[session.gpu].node
    if session.status == "idle" and chance.random() < 0.5:
        return replace(move, kind="offload", target=None, source_node=home, target_node=home)
    return replace(move, kind="migrate", source_node=home) if session.gpu != gpu.gpu_id else None
