"""What people are told of moves that have come to nothing.

Decides the words, and how many of them; must never decide anything about a session.
"""

from __future__ import annotations

from runtime.controller.controller import EpochOver, Happening, Ticked
from runtime.controller.step import Step
from runtime.journal.records import Left
from runtime.transfer.messages import AttemptFailed, Nack
from runtime.worker.messages import Refused
from runtime.worker.process.messages import Said
from scheduler import events

MOVES_MAX = 5  # by name in one epoch; of others only how many there are


class Telling:
    """Of one controller's life."""

    def __init__(self) -> None:
        self._moves: dict[str, events.MoveStarted] = {}  # under way, by session
        self._failed = 0  # in this epoch

    def heard(self, happening: Happening, step: Step) -> list[str]:
        """One thing that has happened, and what was decided because of it, once that is written down."""
        found: list[str] = []
        for event in step.events:
            match event:
                case events.MoveStarted():
                    self._moves[event.session_id] = event
                case events.MoveEnded() | events.SessionClosed():
                    self._moves.pop(event.session_id, None)
                case events.MoveFailed() if event.session_id in self._moves:
                    move = self._moves.pop(event.session_id)
                    self._failed += 1
                    if self._failed <= MOVES_MAX:
                        found.append(f"{_words(move)} has failed: {_reason(happening, step)}")
                case _:
                    pass
        if isinstance(happening, EpochOver):
            if self._failed > MOVES_MAX:
                found.append(f"{self._failed - MOVES_MAX} more moves of this epoch have failed")
            self._failed = 0
        return found


def _words(move: events.MoveStarted) -> str:
    source = "" if move.source is None else f" from {move.source}"
    target = " to host memory" if move.target is None else f" to {move.target}"
    return f"session {move.session_id}: {move.kind}{source}{target}"


def _reason(happening: Happening, step: Step) -> str:
    match happening:
        case Said(report=Refused() | Nack() | AttemptFailed() as report):
            return f"{happening.worker}: {report.reason}"
        case Ticked() if not any(isinstance(record, Left) for record in step.records):
            return "it took too long"
    gone = [f"{record.worker} is gone: {record.reason}" for record in step.records if isinstance(record, Left)]
    return gone[0] if gone else "the target cannot take it now"
