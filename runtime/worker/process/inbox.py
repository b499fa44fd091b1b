"""What waits for the compute thread: messages of controller and gateway, and events of the worker's own threads.

Decides how many messages may wait; must never know what they say. Events are never turned away: there are at most a few
for each copy and each transfer, and those are bounded.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from runtime.worker.events import Event
from runtime.worker.process.messages import FromController, FromGateway

MESSAGES_MAX = 256

Message = FromController | FromGateway
Heard = Message | Event


class Inbox:
    """Any thread puts in, one takes out. `room_again` is called when there is room after there was none."""

    def __init__(self, room_again: Callable[[], None], messages_max: int = MESSAGES_MAX) -> None:
        self._room_again, self._messages_max = room_again, messages_max
        self._news = threading.Condition()
        self._messages: deque[Message] = deque()
        self._events: deque[Event] = deque()
        self._woken = self._was_full = False

    def offer(self, message: Message) -> bool:
        """False if as many wait as may: the message is still the caller's."""
        with self._news:
            if len(self._messages) >= self._messages_max:
                self._was_full = True
                return False
            self._messages.append(message)
            self._news.notify()
            return True

    @property
    def has_room(self) -> bool:
        with self._news:
            self._was_full = len(self._messages) >= self._messages_max
            return not self._was_full

    def tell(self, event: Event) -> None:
        with self._news:
            self._events.append(event)
            self._news.notify()

    def wake(self) -> None:
        """Something has changed that is no message: the compute thread looks."""
        with self._news:
            self._woken = True
            self._news.notify()

    def take(self, wait_s: float) -> list[Heard]:
        """All that is there, events first; waits for so long if nothing is."""
        with self._news:
            if not (self._events or self._messages or self._woken) and wait_s > 0:
                self._news.wait(wait_s)
            heard: list[Heard] = [*self._events, *self._messages]
            self._events.clear()
            self._messages.clear()
            was_full, self._was_full, self._woken = self._was_full, False, False
        if was_full:
            self._room_again()
        return heard
