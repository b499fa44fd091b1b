"""Process groups of two workers each, kept from one transfer to the next.

Decides when a pair is made, lent, closed and made anew; must never know what travels over it.

Both sides meet at a store that the controller keeps, under `pair/a-b/incarnation`. A pair in which anything has failed
is closed and never used again: the controller names a higher incarnation for the next transfer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed import DistError

from runtime.transfer.transport import TransferError
from runtime.transfer.wire import Patience

PAIRS_MAX = 8  # per worker and kind
_LOOK_S = 0.02  # how long an abort may go unnoticed
RENDEZVOUS_S = 10.0  # until the other side has come

# Of torch's backends: `(store, rank, timeout) -> backend`; they share no type that says send and recv.
MakeGroup = Callable[[Store, int, timedelta], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A group of this worker and one other."""

    peer: str
    incarnation: int
    rank: int
    group: Any

    @property
    def peer_rank(self) -> int:
        return 1 - self.rank


class Pairs:
    """The pairs of one worker and one kind of backend. Used by several threads; a pair is lent to one at a time."""

    def __init__(
        self,
        me: str,
        store_address: tuple[str, int],
        make_group: MakeGroup,
        close_group: Callable[[Any], None],
        *,
        pairs_max: int = PAIRS_MAX,
        rendezvous_s: float = RENDEZVOUS_S,
    ) -> None:
        self._me, self._store_address = me, store_address
        self._make_group, self._close_group = make_group, close_group
        self._pairs_max, self._rendezvous_s = pairs_max, rendezvous_s
        self._lock = threading.Lock()
        self._idle: dict[str, Pair] = {}  # by peer, who was used least recently first
        self._lent: set[str] = set()  # peers
        self._newest: dict[str, int] = {}  # incarnation that was ever asked for, by peer
        self._hanging: list[_Making] = []

    def warm(self, peer: str, incarnation: int, patience: Patience) -> None:
        """Make a pair before it is needed; both sides must do so."""
        self.give_back(self.lend(peer, incarnation, patience, patience.clock() + self._rendezvous_s), sound=True)

    def lend(self, peer: str, incarnation: int, patience: Patience, end_s: float) -> Pair:
        """The pair of this incarnation, kept or new; older ones of the same peer are closed, and never made again."""
        with self._lock:
            if peer in self._lent:
                raise TransferError("refused", f"a transfer with {peer} is under way")
            if len(self._lent) >= self._pairs_max:
                raise TransferError("refused", f"{self._pairs_max} pairs are in use, and no more may be")
            idle = self._idle.get(peer)
            kept = idle is not None and idle.incarnation == incarnation
            if not kept and incarnation <= self._newest.get(peer, -1):
                raise TransferError("refused", f"incarnation {incarnation} of the pair with {peer} has been used")
            self._newest[peer] = incarnation
            self._idle.pop(peer, None)
            self._lent.add(peer)
        if idle is not None and kept:
            return idle
        try:
            if idle is not None:
                self._close_group(idle.group)
            return self._make(peer, incarnation, patience, end_s)
        except BaseException:
            with self._lock:
                self._lent.remove(peer)
            raise

    def give_back(self, pair: Pair, *, sound: bool) -> None:
        """After a transfer; a pair that is not sound is closed, and so is one too many."""
        surplus: list[Pair] = [] if sound else [pair]
        with self._lock:
            self._lent.remove(pair.peer)
            if sound:
                self._idle[pair.peer] = pair
            while len(self._idle) > self._pairs_max:
                surplus.append(self._idle.pop(next(iter(self._idle))))
        for closed in surplus:
            self._close_group(closed.group)

    def close(self) -> None:
        """Every pair that is not lent."""
        with self._lock:
            idle, self._idle = list(self._idle.values()), {}
        for pair in idle:
            self._close_group(pair.group)

    def _make(self, peer: str, incarnation: int, patience: Patience, end_s: float) -> Pair:
        """In a thread of its own: a store that hangs makes torch wait without any deadline."""
        patience.check()
        end_s = min(end_s, patience.clock() + self._rendezvous_s)
        left_s = end_s - patience.clock()
        if left_s <= 0:
            raise TransferError("late", "no time is left for a pair to be made")
        with self._lock:
            self._hanging = [making for making in self._hanging if making.is_alive()]
            hanging = len(self._hanging)
        if hanging >= self._pairs_max:
            raise TransferError("refused", f"{hanging} pairs are still being made: does the store answer?")
        first, second = sorted((self._me, peer))
        rank = 0 if self._me == first else 1
        place = _Place(
            address=self._store_address, prefix=f"pair/{first}-{second}/{incarnation}", rank=rank, seconds=left_s
        )
        making = _Making(place, self._make_group, self._close_group)
        making.start()
        while not making.done.wait(_LOOK_S) and patience.clock() < end_s and not patience.stopped():
            pass
        group = making.take()
        if group is None:
            with self._lock:
                self._hanging.append(making)
            raise TransferError("lost", f"no pair with {peer}: {making.failure}")
        return Pair(peer=peer, incarnation=incarnation, rank=rank, group=group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where two workers meet."""

    address: tuple[str, int]
    prefix: str
    rank: int
    seconds: float


class _Making(threading.Thread):
    """A pair that is being made. Whoever has waited for it in vain leaves it alone, and it closes what it has made."""

    def __init__(self, place: _Place, make_group: MakeGroup, close_group: Callable[[Any], None]) -> None:
        super().__init__(name=place.prefix, daemon=True)
        self._place, self._make_group, self._close_group = place, make_group, close_group
        self._lock = threading.Lock()
        self._group: Any = None
        self._left_alone = False
        self.failure = "the store or the other side does not answer"
        self.done = threading.Event()

    def run(self) -> None:
        host, port = self._place.address
        timeout = timedelta(seconds=self._place.seconds)
        group = None
        try:
            store = TCPStore(host, port, None, False, timeout=timeout)
            group = self._make_group(PrefixStore(self._place.prefix, store), self._place.rank, timeout)
        except (DistError, RuntimeError) as error:
            self.failure = first_line(error)
        with self._lock:
            self._group = group
            surplus = group if self._left_alone else None
        self.done.set()
        if surplus is not None:
            self._close_group(surplus)

    def take(self) -> Any:
        """The group, if there is one; if it comes later, nobody wants it."""
        with self._lock:
            self._left_alone = True
            return self._group


def first_line(error: Exception) -> str:
    """What a backend says, without its stack."""
    return str(error).partition("\n")[0][:200]
