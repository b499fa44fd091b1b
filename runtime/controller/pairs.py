"""Over which connection two workers exchange states next.

Decides ways and incarnations, of which none is used again after a failure; must never know a socket.
"""

from __future__ import annotations

from runtime.transfer.messages import Route, Way

ALWAYS_WORKS: Way = "tcp"
_PER_CONTROLLER = 1 << 32  # incarnations that one controller may use up


class Pairs:
    """What connects each pair of workers that are there."""

    def __init__(self, controller_epoch: int) -> None:
        """Workers may still keep what an earlier controller has told them to connect."""
        self._last = controller_epoch * _PER_CONTROLLER
        self._incarnation: dict[frozenset[str], int] = {}
        self._fell_back: set[frozenset[str]] = set()

    def copy(self) -> Pairs:
        copied = Pairs(0)
        copied._last, copied._incarnation, copied._fell_back = (
            self._last,
            dict(self._incarnation),
            set(self._fell_back),
        )
        return copied

    def route(self, source: str, target: str, way: Way, *, busy: bool) -> Route:
        """As the target has to take it.

        Over what works everywhere if something has failed between the two, or if what connects them is busy: a pair
        serves one transfer at a time.
        """
        pair = frozenset((source, target))
        if pair not in self._incarnation:
            self._last += 1
            self._incarnation[pair] = self._last
        way = ALWAYS_WORKS if busy or pair in self._fell_back else way
        return Route(way=way, peer=source, incarnation=self._incarnation[pair])

    def failed(self, source: str, target: str) -> None:
        pair = frozenset((source, target))
        self._incarnation.pop(pair, None)
        self._fell_back.add(pair)

    def left(self, worker: str) -> None:
        """Whoever comes back under its name is connected anew."""
        self._incarnation = {pair: each for pair, each in self._incarnation.items() if worker not in pair}
        self._fell_back = {pair for pair in self._fell_back if worker not in pair}
