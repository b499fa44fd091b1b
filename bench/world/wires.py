"""What is on its way between two ends: bytes, some of which are lost, doubled or late.

Decides the fate of each frame; must never know what it says.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

FRAMES_MAX = 2048  # as a socket's high-water mark: what comes then is lost


class Wire:
    """One direction. `told` hears of every frame that is put in, for whoever compares histories.

    `loss` is the chance that a frame is lost, and `doubled` that it comes twice, both while it is `rough`.
    """

    def __init__(self, chance: random.Random, loss: float, doubled: float, told: Callable[[bytes], None]) -> None:
        self._chance, self._loss, self._doubled, self._told = chance, loss, doubled, told
        self.rough = True
        self._frames: deque[bytes] = deque()
        self._stale: list[bytes] = []  # of a connection that has ended: they come behind newer ones

    def put(self, frame: bytes) -> None:
        self._told(frame)
        luck = self._chance.random() if self.rough else 1.0
        if luck < self._loss or len(self._frames) >= FRAMES_MAX:
            return
        self._frames.append(frame)
        if luck < self._loss + self._doubled:
            self._frames.append(frame)

    def take(self) -> list[bytes]:
        """A random share of what is there; all of it where nothing is lost any more."""
        count = self._chance.randint(0, len(self._frames)) if self.rough else len(self._frames)
        taken = [self._frames.popleft() for _ in range(count)]
        if self._stale and (taken or not self.rough):
            taken, self._stale = taken + self._stale, []
        return taken

    def put_back(self, frames: list[bytes]) -> None:
        """Whoever took them had no room."""
        self._frames.extendleft(reversed(frames))

    def reconnect(self) -> None:
        """The connection ends: of what was on its way some is lost, and the rest comes behind what is said next."""
        self._stale = [frame for frame in (*self._stale, *self._frames) if self._chance.random() < 0.5]
        self._frames.clear()

    def cut(self) -> None:
        """The connection ends, and all that was on its way with it."""
        self._frames.clear()
        self._stale.clear()
