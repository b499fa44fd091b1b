"""The stream of one session: which chunks are taken, which are kept, and how many more may come.

Decides what a client gets next and what its worker may compute; must never know a socket, nor who the client is.

A worker counts chunks by lineage and number; a client counts them by `seq`, which goes on over lineages. Each pair of
lineage and number is taken once, in order, and never from a lower ownership epoch. A number that is left out will not
come any more: a worker delivers in order, and hands over only when everything of it has come.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from runtime.gateway.limits import SEQ_MAX, Limits
from runtime.worker.messages import Encoding
from runtime.worker.process.messages import Delivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A chunk that was taken."""

    lineage: int
    number: int
    encoding: Encoding
    body: bytes
    init: bytes | None  # in force here; with `opens`, the encoder has begun with it
    opens: bool
    key_frame: bool
    discontinuity: bool  # a lineage begins: what was shown before does not go on
    gap: bool  # chunks before it are lost
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return len(self.body) + (len(self.init) if self.init is not None and self.opens else 0)


class Stream:
    """Chunks of one session. `seq` of the next one is `next_seq`; the client has taken all below `taken`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.ownership = self.lineage = self.number = 0  # the next chunk has this number
        self._heard_number = 0  # that the owner has come to, as the controller has heard
        self._ring: deque[Kept] = deque()
        self.ring_bytes = 0
        self._first_seq = 0
        self.taken = 0
        self._init: bytes | None = None
        self._begun = self._opening = self._hole = self._numbers_known = False

    @property
    def next_seq(self) -> int:
        return self._first_seq + len(self._ring)

    @property
    def first_seq(self) -> int:
        """Of the oldest that is kept; `next_seq` if none is."""
        return self._first_seq

    @property
    def begun(self) -> bool:
        """Whether a chunk has ever come."""
        return self._begun

    def owned(self, ownership: int, lineage: int, chunk_number: int) -> None:
        """The controller says who serves, from which lineage, and how far that has come at least."""
        if ownership < self.ownership or lineage < self.lineage:
            return
        self.ownership = ownership
        if lineage > self.lineage:
            self._begin_lineage(lineage)
        self._heard_number = max(self._heard_number, chunk_number)

    def take(self, chunk: Delivered, *, present: bool) -> bool:
        """False if it was taken before, or is not the owner's. `present`: a client is there, and loses nothing."""
        if chunk.ownership < self.ownership or chunk.lineage < self.lineage:
            return False
        if chunk.lineage == self.lineage and chunk.number < self.number:
            return False
        self.ownership = chunk.ownership
        if chunk.lineage > self.lineage:
            self._begin_lineage(chunk.lineage)
        discontinuity = self._begun and self._opening
        gap = self._begun and not discontinuity and (self._hole or chunk.number > self.number)
        self._opening = self._hole = False
        self._begun, self.number = True, chunk.number + 1
        self._init = chunk.init or self._init
        kept = Kept(
            lineage=chunk.lineage,
            number=chunk.number,
            encoding=chunk.encoding,
            body=chunk.body,
            init=self._init,
            opens=chunk.init is not None,
            key_frame=chunk.key_frame,
            discontinuity=discontinuity,
            gap=gap,
            shape=chunk.shape,
        )
        self._ring.append(kept)
        self.ring_bytes += kept.size_bytes
        self._trim(present=present)
        return True

    def skip(self, lineage: int, number: int, count: int) -> None:
        """The owner says that these will not come, nor any before them."""
        if lineage == self.lineage and number + count > self.number:
            self.number, self._hole = number + count, True

    def has_come(self, lineage: int, up_to: int) -> bool:
        """Whether no chunk of that lineage below that number is still to come."""
        return self.lineage > lineage or (self.lineage == lineage and self.number >= up_to)

    def begin(self, from_seq: int | None) -> tuple[int, bool]:
        """Where a client begins, and whether it can only go on from a key frame.

        One that says where it was goes on there, or with the oldest chunk that is kept. One that does not begins with
        what nobody has taken yet. A gateway that has begun anew goes on counting where its client was, and cannot know
        what that has missed.
        """
        if from_seq is not None and from_seq > self.next_seq and not self._numbers_known:
            self._first_seq = min(from_seq, SEQ_MAX - len(self._ring))
        if from_seq is None:
            self.taken = max(self.taken, self._first_seq)
            return self.taken, True
        self.taken = min(max(from_seq, self._first_seq), self.next_seq)
        return self.taken, not self._numbers_known or self.taken != from_seq

    def chunk(self, seq: int) -> Kept | None:
        """None if it has not come yet, or is not kept any more."""
        at = seq - self._first_seq
        return self._ring[at] if 0 <= at < len(self._ring) else None

    def shown(self) -> None:
        """A client has been sent a chunk, and goes by the numbers that there are."""
        self._numbers_known = True

    def took(self, seq: int) -> None:
        """The client has all below that."""
        self.taken = min(max(self.taken, seq), self.next_seq)

    def credit(self) -> int:
        """The worker may compute chunks of the present lineage with numbers below this."""
        waiting = self.next_seq - self.taken
        full = waiting and self._waiting_bytes() >= self._limits.ring_bytes_max
        return max(self.number, self._heard_number) + (0 if full else max(0, self._limits.ahead - waiting))

    def shed(self, *, present: bool) -> int:
        """Drop what nobody waits for. How many bytes that were."""
        before = self.ring_bytes
        while self._ring and (not present or self._first_seq < self.taken):
            self._drop_first()
        return before - self.ring_bytes

    def _begin_lineage(self, lineage: int) -> None:
        self.lineage, self.number, self._heard_number = lineage, 0, 0
        self._init, self._hole, self._opening = None, False, True

    def _waiting_bytes(self) -> int:
        first = max(0, self.taken - self._first_seq)
        return sum(self._ring[at].size_bytes for at in range(first, len(self._ring)))

    def _trim(self, *, present: bool) -> None:
        limits = self._limits
        while len(self._ring) > limits.ring_chunks_max or self.ring_bytes > limits.ring_bytes_max:
            if (present and self._first_seq >= self.taken) or len(self._ring) == 1:
                return
            self._drop_first()

    def _drop_first(self) -> None:
        self.ring_bytes -= self._ring.popleft().size_bytes
        self._first_seq += 1
