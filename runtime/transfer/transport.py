"""What every transport can do: move ranges of a block, and short notes, between two workers, for one attempt.

Decides the words of a transport and how it fails; must never know what a migration is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor

from runtime.state.ranges import GRANULE_BYTES, Range, Ranges

NOTE_BYTES_MAX = (1 << 20) + (1 << 18)  # a head and the ranges of a round
PART_BYTES = 8 << 20  # handed over at once; checksums are computed part by part beside the transfer
STALL_S = 5.0  # without a byte, after which a peer counts as lost

assert PART_BYTES % GRANULE_BYTES == 0

Cause = Literal["late", "lost", "aborted", "malformed", "refused"]
PartDone = Callable[[Range], None]


class TransferError(Exception):
    """The world's fault: the transfer is over, and the transport can only be closed."""

    def __init__(self, cause: Cause, what: str) -> None:
        super().__init__(f"{cause}: {what}")
        self.cause = cause


class Transport(Protocol):
    """One connection between two workers, used by one thread.

    Every call ends by `end_s`, of the clock that the transport was made with; soon after the other side has been lost;
    and, where this side has given up (`Patience.stopped`), after `STALL_S` at the latest. `memory` is the view of a
    block. `part_done` is called with each part: by the sender about when it goes, by the receiver when it is in the
    block.
    """

    def send_note(self, note: bytes, end_s: float) -> None: ...

    def receive_note(self, end_s: float) -> bytes: ...

    def send(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None: ...

    def receive(self, memory: Tensor, ranges: Ranges, part_done: PartDone, end_s: float) -> None: ...

    def close(self, *, finished: bool) -> None:
        """Nothing touches any memory after this. Only what both sides have finished may be kept for later."""
        ...
