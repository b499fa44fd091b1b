"""One pass, and who is to blame if it fails.

Decides whose state is given up so that everybody else goes on; must never know what becomes of a session after that.

A pass that fails is tried again in halves, down to single sessions. A refusal comes before anybody has advanced. After
any other failure nobody knows who has, so that all its chunks are begun again, and come out the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from runtime.chunk_models.chunk_model import Chunk, ChunkModel, RefusedError, Seat
from runtime.transfer.messages import REASON_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Blamed:
    """A session that cannot be computed even alone."""

    session: str
    reason: str
    refused: bool  # by the ChunkModel, in words; otherwise the device or its memory has failed


@dataclass(frozen=True, slots=True, kw_only=True)
class PassEnded:
    """What a pass has brought."""

    chunks: tuple[Chunk, ...] = ()
    blamed: tuple[Blamed, ...] = ()


def run_pass(model: ChunkModel, seats: Sequence[Seat]) -> PassEnded:
    """Advance all who can be. Bugs (assertions) are not caught."""
    try:
        return PassEnded(chunks=model.run_pass(seats))
    except RefusedError as error:
        reason, refused = str(error), True
    except (MemoryError, RuntimeError) as error:  # torch has no narrower type for what a device or an allocator does
        reason, refused = f"{type(error).__name__}: {error}", False
    # Out here nothing holds the tensors of the pass that has failed.
    if not refused:
        for seat in seats:
            model.forget(seat.head.session)
    if len(seats) == 1:
        model.forget(seats[0].head.session)
        return PassEnded(blamed=(Blamed(session=seats[0].head.session, reason=reason[:REASON_MAX], refused=refused),))
    middle = len(seats) // 2
    halves = [run_pass(model, part) for part in (seats[:middle], seats[middle:])]
    return PassEnded(
        chunks=tuple(chunk for half in halves for chunk in half.chunks),
        blamed=tuple(one for half in halves for one in half.blamed),
    )
