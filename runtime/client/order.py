"""Whether chunks come as they must: each number once, in order, without a hole that nobody told of.

Decides that from the chunks' headers; must never know a connection.
"""

from __future__ import annotations

from runtime.client.errors import BrokenStreamError, Fault
from runtime.gateway.framing import Framed


class Order:
    """Of one client, over all its connections. `next_seq` is None until it has been told where it begins."""

    def __init__(self, next_seq: int | None) -> None:
        self.next_seq = next_seq
        self.lineage: int | None = None
        self._moved = False  # the gateway goes on elsewhere than where this client was

    def started(self, from_seq: int) -> None:
        """A connection begins there."""
        self._moved = self.next_seq is not None and from_seq != self.next_seq
        self.next_seq = from_seq

    def came(self, chunk: Framed) -> bool:
        """Whether a lineage begins with it. Raises `BrokenStreamError`."""
        if self.next_seq is None or chunk.seq < self.next_seq or (chunk.seq > self.next_seq and not chunk.gap):
            raise _broken(f"chunk {chunk.seq} has come where {self.next_seq} is the next")
        if self._moved and not chunk.gap:
            raise _broken(f"chunk {chunk.seq} is not where this client was, and does not say so")
        known = self.lineage is not None
        if self.lineage is not None and chunk.lineage < self.lineage:
            raise _broken(f"chunk {chunk.seq} is of lineage {chunk.lineage}, after {self.lineage}")
        begins = known and chunk.lineage != self.lineage
        if begins and not (chunk.discontinuity or chunk.gap):
            raise _broken(f"chunk {chunk.seq} begins lineage {chunk.lineage} and does not say so")
        self.next_seq, self.lineage, self._moved = chunk.seq + 1, chunk.lineage, False
        return begins or chunk.discontinuity


def _broken(message: str) -> BrokenStreamError:
    return BrokenStreamError(Fault(code="out_of_order", message=message, fix="start again without from_seq"))
