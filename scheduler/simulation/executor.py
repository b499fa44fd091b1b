"""A plan carried out: GPUs first, then its moves wave by wave; what does not apply any more is passed over.

Decides what of a plan is done and when the next wave begins; must never know how the plan was found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from scheduler.cluster import Session
from scheduler.plan import Decision, Move
from scheduler.simulation.power import Power
from scheduler.simulation.stage import Stage
from scheduler.simulation.transfers import Transfers

_STATUS = {"place": ("waiting",), "resume": ("waiting",), "migrate": ("active", "idle"), "offload": ("active", "idle")}


class Executor:
    """What is left of the last plan."""

    def __init__(self, stage: Stage, power: Power, transfers: Transfers) -> None:
        self._stage, self._power, self._transfers = stage, power, transfers
        self._later: deque[list[Move]] = deque()  # waves that have not begun
        self._wave = 0  # of all that ever began

    def follow(self, decision: Decision, now_us: int) -> None:
        """The plan takes effect, and replaces the one before."""
        self._power.follow(decision.plan.gpus, now_us)
        for event in decision.events:
            self._stage.tell(event, now_us)
        self._later = deque(_waves(decision.plan.moves))
        self._wave += 1
        self.go_on(now_us)

    def go_on(self, now_us: int) -> None:
        """The next wave begins if the last one has ended."""
        while self._later and self._wave not in self._transfers.in_wave:
            self._wave += 1
            for move in self._later.popleft():
                if applies(move, self._stage):
                    self._transfers.begin(move, self._wave, now_us)


def applies(move: Move, stage: Stage) -> bool:
    """Whether a planned move can still begin."""
    session = stage.sessions.get(move.session_id)
    if session is None or move.session_id in stage.moves:
        return False
    if session.status not in _STATUS[move.kind] or not _is_where_thought(move, session):
        return False
    if move.target is None:
        return session.gpu is not None and stage.has_room(stage.gpus[session.gpu].node, session.profile)
    return stage.gpus[move.target].status == "ready" and stage.has_room(move.target, session.profile)


def _is_where_thought(move: Move, session: Session) -> bool:
    """On the same GPU; where it is on none, its state is in the same host memory, or nowhere."""
    return session.gpu == move.source and (session.gpu is not None or session.node == move.source_node)


def _waves(moves: Iterable[Move]) -> list[list[Move]]:
    found: dict[int, list[Move]] = {}
    for move in moves:
        found.setdefault(move.wave, []).append(move)
    return [found[wave] for wave in sorted(found)]
