"""What differs between two plans: sessions with other seats, GPUs with other aims, moves that come and go.

Decides what counts as a difference; must never know why the plans differ or how a difference is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.cluster import GpuId, SessionId
from scheduler.plan import GpuAim, Move, Plan, Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """From one plan to another; None stands for what one of them does not speak of. Sorted by name."""

    versions: tuple[int, int]
    seats: Mapping[SessionId, tuple[Seat | None, Seat | None]]
    gpus: Mapping[GpuId, tuple[GpuAim | None, GpuAim | None]]
    moves_gone: tuple[Move, ...]  # in the first plan only
    moves_new: tuple[Move, ...]  # in the second plan only

    @property
    def empty(self) -> bool:
        """Whether both ask for the same, whatever their versions."""
        return not (self.seats or self.gpus or self.moves_gone or self.moves_new)


def diff_plans(first: Plan, second: Plan) -> PlanDiff:
    """What changes if the second plan replaces the first. A move in another wave is another move."""
    old, new = set(first.moves), set(second.moves)
    return PlanDiff(
        versions=(first.version, second.version),
        seats={
            name: (first.seats.get(name), second.seats.get(name))
            for name in sorted(first.seats.keys() | second.seats.keys())
            if first.seats.get(name) != second.seats.get(name)
        },
        gpus={
            name: (first.gpus.get(name), second.gpus.get(name))
            for name in sorted(first.gpus.keys() | second.gpus.keys())
            if first.gpus.get(name) != second.gpus.get(name)
        },
        moves_gone=tuple(move for move in first.moves if move not in new),
        moves_new=tuple(move for move in second.moves if move not in old),
    )
