"""What a worker asks of whatever turns sessions into video, chunk by chunk.

Decides what a session is between two chunks: a small head, and one block of bytes in an arena that the worker owns.
Must never know where blocks go, who owns a session, how long a pass may take, or how chunks are delivered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

SESSION_CHARACTERS_MAX = 128
PROMPT_CHARACTERS_MAX = 4096
CONTROL_CHARACTERS_MAX = 64
SEED_MAX = 2**63 - 1


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What travels beside a session's block; the two together are all that a session is.

    A chunk is a function of the head and of the block's bytes outside `dirty(head)`, and of nothing else. Whoever holds
    the head may replace `prompt` and `control` at any time: a chunk reads them once, when it begins.
    """

    session: str
    lineage: int = 0  # grows when a session starts anew because its block was lost
    profile: str
    seed: int  # in [0, SEED_MAX]
    prompt: str
    control: str = ""  # held until it is replaced; "" lets go
    chunk_number: int = 0  # of the next chunk
    revision: str  # of the ChunkModel that wrote the block


class ChunkProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One shape of video that a ChunkModel makes, and what a session of it occupies."""

    name: str
    width: int
    height: int
    frames: int  # of one chunk
    frames_per_s: float
    state_bytes: int

    @property
    def chunk_s(self) -> float:
        """How long a chunk plays."""
        return self.frames / self.frames_per_s


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is in the arena: its block is `[offset, offset + state_bytes)`."""

    head: Head
    offset: int  # a multiple of the ChunkModel's `alignment_bytes`


class ByteRange(msgspec.Struct, frozen=True, order=True):
    """Bytes `[start, stop)`, counted from the block's first."""

    start: int
    stop: int


class Chunk(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A finished chunk."""

    session: str
    lineage: int
    number: int
    frames: NDArray[np.uint8]  # RGB, [frames, height, width, 3], in host memory


class RefusedError(ValueError):
    """A head that this ChunkModel cannot continue; the text says why and what would help."""


class ChunkModel(Protocol):
    """Makes chunks of any set of sessions in coalesced passes; one thread calls it.

    A chunk takes `passes_per_chunk` passes. Sessions that are at different passes of their chunks share a pass, so that
    who joins waits for a pass and not for a chunk. Whatever a session's company is, its chunks are the same bytes.

    Between two chunks a session is its head and its block, and may be copied to another offset, process or machine of
    the same kind of device. Within a chunk there is scratch besides, which never leaves the ChunkModel: a chunk that
    was abandoned is begun again from the same head and comes out the same.
    """

    @property
    def revision(self) -> str:
        """A hash of all that decides what a block's bytes mean: weights and configuration."""
        ...

    @property
    def profiles(self) -> Mapping[str, ChunkProfile]:
        """By name."""
        ...

    @property
    def alignment_bytes(self) -> int:
        """Every offset is a multiple of this, and so is every `state_bytes`."""
        ...

    @property
    def passes_per_chunk(self) -> int: ...

    def refusal(self, head: Head) -> str | None:
        """Why this head cannot be continued here: its revision, profile, seed, prompt or control; None if it can."""
        ...

    def bind(self, arena: torch.Tensor) -> None:
        """Take the arena of all blocks, once: uint8, [bytes], contiguous, on the device to compute on."""
        ...

    def warm_up(self) -> None:
        """Do once whatever makes a first pass slow. Writes nothing to the arena."""
        ...

    def open(self, seat: Seat) -> None:
        """Make the block that of a session without a past: all of its bytes become 0, whatever they were.

        Raises `RefusedError`.
        """
        ...

    def run_pass(self, seats: Sequence[Seat]) -> tuple[Chunk, ...]:
        """Advance these sessions by one pass of their chunks, and return the chunks that are now complete.

        Who has no chunk in progress begins that of `head.chunk_number`; from then on the head's session, lineage,
        profile, number and offset stay as they are until the chunk is complete or forgotten. When a chunk is returned
        its block is complete, and the session goes on with `advanced(head)`. Raises `RefusedError` before it has
        advanced anybody.
        """
        ...

    def forget(self, session: str) -> None:
        """Drop the session's chunk in progress, if there is one; call it before its block is given to anybody else."""
        ...

    def dirty(self, head: Head) -> tuple[ByteRange, ...]:
        """The parts of the block that the head's next chunk may write, in ascending order, apart from each other.

        All other bytes stay as they are from the chunk's beginning to its end, and may be copied meanwhile.
        """
        ...


def advanced(head: Head) -> Head:
    """The head after its next chunk is complete."""
    return msgspec.structs.replace(head, chunk_number=head.chunk_number + 1)


def revision_of(parts: Mapping[str, bytes]) -> str:
    """A hash of named parts that does not depend on their order."""
    total = hashlib.sha256()
    for name in sorted(parts):
        total.update(f"{name}:{len(parts[name])}:".encode())
        total.update(hashlib.sha256(parts[name]).digest())
    return total.hexdigest()


def refusal_of(model: ChunkModel, head: Head) -> str | None:
    """What every ChunkModel refuses: blocks of another revision, unknown profiles, heads beyond their bounds."""
    if head.revision != model.revision:
        return (
            f"revision={head.revision[:12]!r} wrote the block and this is {model.revision[:12]!r}: run workers with "
            "the same weights, configuration, torch and --threads, or open the session anew"
        )
    if head.profile not in model.profiles:
        return f"profile={head.profile!r} must be one of {', '.join(sorted(model.profiles))}"
    if not 0 <= head.seed <= SEED_MAX:
        return f"seed={head.seed} must be >= 0 and <= {SEED_MAX}"
    if head.chunk_number < 0 or head.lineage < 0:
        return f"chunk_number={head.chunk_number} and lineage={head.lineage} must be >= 0"
    if not 0 < len(head.session) <= SESSION_CHARACTERS_MAX:
        return f"session has {len(head.session)} characters; it must have 1 to {SESSION_CHARACTERS_MAX}"
    if len(head.control) > CONTROL_CHARACTERS_MAX:
        return f"control has {len(head.control)} characters; it must have at most {CONTROL_CHARACTERS_MAX}"
    if len(head.prompt) > PROMPT_CHARACTERS_MAX:
        return f"prompt has {len(head.prompt)} characters; it must have at most {PROMPT_CHARACTERS_MAX}"
    return None
