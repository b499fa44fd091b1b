"""Which bytes of one memory belong to whom.

Decides where a block lies, what a refusal says and when a freed block may be used again; must never know the memory
itself nor a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from runtime.state.ranges import GRANULE_BYTES, round_up

Use = Literal["used", "reserved", "draining"]  # draining: freed, and a copy still touches it
MIB = 1 << 20


class Block(NamedTuple):
    """Contiguous bytes of one memory. `serial` is never used again, so that an old name cannot mean a new block."""

    serial: int
    start: int
    size_bytes: int

    @property
    def end(self) -> int:
        return self.start + self.size_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a memory holds, in bytes; used + reserved + draining + free are all of it."""

    used: int
    reserved: int  # for states that are on their way here
    draining: int
    free: int
    largest_free: int  # in one run


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """A refusal, in numbers."""

    needs_bytes: int
    room: Room

    def __str__(self) -> str:
        return (
            f"needs {_mib(self.needs_bytes)} MiB, largest free run is {_mib(self.room.largest_free)} MiB "
            f"of {_mib(self.room.free)} MiB free"
        )


class BlockMap:
    """Blocks of any sizes in one memory; the smallest free run that is large enough is taken, the first of equals.

    A block that is freed while copies hold it becomes free when the last of them has let it go.
    """

    def __init__(self, total_bytes: int) -> None:
        assert total_bytes > 0, f"total_bytes={total_bytes} must be > 0"
        assert total_bytes % GRANULE_BYTES == 0, f"total_bytes={total_bytes} must be whole granules of {GRANULE_BYTES}"
        self.total_bytes = total_bytes
        self._uses: dict[Block, Use] = {}
        self._holds: dict[Block, int] = {}
        self._serial = 0

    @property
    def uses(self) -> Mapping[Block, Use]:
        """Every block that is not free."""
        return dict(self._uses)

    @property
    def room(self) -> Room:
        sums: dict[Use, int] = {"used": 0, "reserved": 0, "draining": 0}
        for block, use in self._uses.items():
            sums[use] += block.size_bytes
        runs = [end - start for start, end in free_runs(self._uses, self.total_bytes)]
        return Room(**sums, free=sum(runs), largest_free=max(runs, default=0))

    def take(self, needs_bytes: int, use: Literal["used", "reserved"] = "used") -> Block | NoRoom:
        """A block of whole granules, or why there is none."""
        assert needs_bytes > 0, f"needs_bytes={needs_bytes} must be > 0"
        size = round_up(needs_bytes)
        fitting = [
            (end - start, start) for start, end in free_runs(self._uses, self.total_bytes) if end - start >= size
        ]
        if not fitting:
            return NoRoom(needs_bytes=needs_bytes, room=self.room)
        self._serial += 1
        block = Block(self._serial, min(fitting)[1], size)
        self._uses[block] = use
        return block

    def settle(self, block: Block) -> None:
        """What was reserved is used from now on."""
        assert self._uses.get(block) == "reserved", f"{block} must be reserved"
        self._uses[block] = "used"

    def hold(self, block: Block) -> None:
        """A copy that reads or writes the block has begun."""
        assert self._uses.get(block) in ("used", "reserved"), f"{block} must be there to be held"
        self._holds[block] = self._holds.get(block, 0) + 1

    def let_go(self, block: Block) -> None:
        """A copy that held the block has ended."""
        holds = self._holds.pop(block, 0)
        assert holds > 0, f"{block} is not held"
        if holds > 1:
            self._holds[block] = holds - 1
        elif self._uses[block] == "draining":
            del self._uses[block]

    def free(self, block: Block) -> None:
        """Nobody needs what the block holds; a second time is our bug."""
        assert self._uses.get(block) in ("used", "reserved"), f"{block} must be there to be freed"
        if block in self._holds:
            self._uses[block] = "draining"
        else:
            del self._uses[block]


def free_runs(blocks: Mapping[Block, object], total_bytes: int) -> list[tuple[int, int]]:
    """`(start, end)` of what lies between the blocks, in order."""
    runs: list[tuple[int, int]] = []
    at = 0
    for block in sorted(blocks, key=lambda block: block.start):
        if block.start > at:
            runs.append((at, block.start))
        at = block.end
    if at < total_bytes:
        runs.append((at, total_bytes))
    return runs


def _mib(size_bytes: int) -> str:
    """Whole MiB where it is whole, so that sizes below one do not all read as 0."""
    return f"{size_bytes // MIB}" if size_bytes % MIB == 0 else f"{size_bytes / MIB:.3f}"
