"""What workers have been told of sessions and have not confirmed: it is said again until they do.

Decides when; must never know what a session is or whether it was right to tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.controller.handover import SAY_AGAIN_S
from runtime.controller.step import Word
from runtime.worker.messages import Close, Demand, Desired, Open, Resume, Suspend

_RESTS = ("active", "idle")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    body: Desired
    said_s: float


class Orders:
    """One at a time for a session on a worker; a later one replaces it."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], _Order] = {}  # by worker and session

    def copy(self) -> Orders:
        """What is given on it is forgotten with it."""
        copied = Orders()
        copied._open = dict(self._open)
        return copied

    def give(self, worker: str, body: Desired, now_s: float) -> Word:
        self._open[worker, body.session_id] = _Order(body=body, said_s=now_s)
        return Word(worker=worker, body=body)

    def of(self, worker: str, session_id: str) -> Desired | None:
        order = self._open.get((worker, session_id))
        return None if order is None else order.body

    def concern(self, session_id: str) -> bool:
        """Whether anything about the session was not confirmed by whoever it was."""
        return any(name == session_id for _, name in self._open)

    def has(self, worker: str) -> bool:
        """Whether anything was not confirmed by it."""
        return any(name == worker for name, _ in self._open)

    def to_forget(self, worker: str) -> list[str]:
        """Sessions that it has not confirmed to have forgotten."""
        return [
            name for (there, name), order in self._open.items() if there == worker and isinstance(order.body, Close)
        ]

    def moved(self, worker: str, session_id: str, state: str) -> None:
        """The worker says in which state the session is: what was to come about may have."""
        body = self.of(worker, session_id)
        if body is not None and _is_done(body, state):
            self.drop(worker, session_id)

    def drop(self, worker: str, session_id: str) -> None:
        self._open.pop((worker, session_id), None)

    def left(self, worker: str) -> None:
        self._open = {at: order for at, order in self._open.items() if at[0] != worker}

    def due(self, there: Iterable[str], now_s: float) -> tuple[Word, ...]:
        """To those workers, what was said long enough ago."""
        names, words = set(there), list[Word]()
        for (worker, session_id), order in list(self._open.items()):
            if worker in names and now_s - order.said_s >= SAY_AGAIN_S:
                self._open[worker, session_id] = _Order(body=order.body, said_s=now_s)
                words.append(Word(worker=worker, body=order.body))
        return tuple(words)


def _is_done(body: Desired, state: str) -> bool:
    match body:
        case Open() | Resume():
            return state in _RESTS
        case Demand():  # it is kept for whoever is suspended
            return state in ("active" if body.active else "idle", "suspended")
        case Suspend():
            return state == "suspended"
        case Close():
            return False
