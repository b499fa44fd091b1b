"""The instants at which an optimal schedule need change anything, and the contents that are possible between them.

Decides the resolution of the exact formulation; must never know variables or solvers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from solvers.contents import ContentTable, RoundCosts, TypeLimits, enumerate_contents
from solvers.offline_problem import NEVER_ON, FloatArray, Int32Array, OfflineProblem

COVER_MAX = 20_000  # steps from one number of GPUs to the next
LATENCY_DIGITS = 9  # latencies closer than this are one: sums of decimals are not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Elementary intervals [cut[i], cut[i + 1]) and the periods that are active throughout each of them."""

    cut_us: tuple[int, ...]  # [intervals + 1]
    epoch: tuple[int, ...]  # [intervals]
    active: tuple[tuple[int, ...], ...]  # [intervals]

    @property
    def intervals(self) -> int:
        return len(self.epoch)

    def duration_us(self, interval: int) -> int:
        return self.cut_us[interval + 1] - self.cut_us[interval]


def elementary_grid(problem: OfflineProblem, *, waiting: bool) -> Grid:
    """Cut time where an optimal schedule may change.

    Periods start and end, epochs begin, GPUs become usable. With `waiting` sessions the first microsecond of an epoch
    stands alone, too: a session may begin there on its new GPU just to be allowed to continue there later, or may be
    interrupted just there to make room for the state of one that leaves.
    """
    horizon_us, epoch_us = problem.horizon_us, problem.epoch_us
    cuts = {0, horizon_us, *problem.start_us.tolist(), *problem.end_us.tolist()}
    boundaries = range(0, horizon_us, epoch_us)
    cuts.update(boundaries)
    for startup_us in {problem.startup_us[t] for t in problem.gpu_type.tolist()}:
        cuts.update(range(startup_us % epoch_us, horizon_us, epoch_us))
    for gpu in np.flatnonzero(problem.gpu_on_us != NEVER_ON).tolist():
        cuts.add(int(problem.gpu_on_us[gpu]) + problem.startup_us[problem.gpu_type[gpu]])
    if waiting:
        at_home = bool(((problem.home >= 0) & (problem.start_us == 0)).any())
        for at_us in boundaries:
            across = bool(((problem.start_us < at_us) & (problem.end_us > at_us)).any())
            if across or (at_us == 0 and at_home):
                cuts.add(at_us + 1)
    ordered = sorted(cut for cut in cuts if 0 <= cut <= horizon_us)
    active = tuple(
        tuple(np.flatnonzero((problem.start_us <= cut) & (problem.end_us > cut)).tolist()) for cut in ordered[:-1]
    )
    return Grid(cut_us=tuple(ordered), epoch=tuple(cut // epoch_us for cut in ordered[:-1]), active=active)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Non-empty contents among which one GPU chooses during one interval; none of them means empty."""

    counts: Int32Array  # [choices, classes]
    latency_ms: FloatArray  # [choices], rounded
    late: Int32Array  # [choices]


class ContentChoices:
    """Contents of each GPU type among given numbers of active sessions, enumerated when first asked for."""

    def __init__(self, problem: OfflineProblem, sessions_max: Sequence[int], *, allow_late: bool) -> None:
        """`sessions_max` [classes]: never are more active at once. Raises TooManyContentsError."""
        self._tables = [
            enumerate_contents(_no_more_than(limits, sessions_max), problem.target_ms, allow_late=allow_late)
            for limits in problem.types
        ]
        self._known: dict[tuple[int, tuple[int, ...], bool], Choices] = {}

    def among(self, type_index: int, sessions: tuple[int, ...], *, maximal: bool) -> Choices:
        """Contents of at most `sessions` [classes]; with `maximal` those to which none of them can be added."""
        key = (type_index, sessions, maximal)
        if key not in self._known:
            self._known[key] = _among(self._tables[type_index], sessions, maximal=maximal)
        return self._known[key]

    def gpus_needed(self, sessions: tuple[int, ...]) -> int:
        """A number without which GPUs of no types can hold `sessions` [classes]: the fewest contents that cover them.

        Breadth first over what remains to be covered; 1 where that would be too much to try.
        """
        contents = {row for t in range(len(self._tables)) for row in self._rows(t, sessions)}
        remaining, needed = {sessions}, 0
        while contents and (0,) * len(sessions) not in remaining:
            needed += 1
            remaining = {
                tuple(max(own - held, 0) for own, held in zip(rest, content, strict=True))
                for rest in remaining
                for content in contents
            }
            if len(remaining) * len(contents) > COVER_MAX or needed > sum(sessions):
                return 1
        return needed

    def _rows(self, type_index: int, sessions: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [tuple(row) for row in self.among(type_index, sessions, maximal=True).counts.tolist()]


def _among(table: ContentTable, sessions: tuple[int, ...], *, maximal: bool) -> Choices:
    chosen = np.asarray((table.counts <= np.array(sessions)).all(axis=1))
    if maximal:
        chosen &= ~((table.add >= 0) & chosen[table.add]).any(axis=1)
    chosen[0] = False
    return Choices(
        counts=table.counts[chosen],
        latency_ms=np.round(table.latency_ms[chosen], LATENCY_DIGITS),
        late=table.late[chosen],
    )


def _no_more_than(limits: TypeLimits, sessions_max: Sequence[int]) -> TypeLimits:
    """The same GPU type with no larger batches than can come about."""
    costs: RoundCosts = limits.costs
    if costs.batching == "grouped":
        tables = tuple(table[:most] for table, most in zip(costs.tables_ms, sessions_max, strict=True))
        return replace(limits, costs=replace(costs, tables_ms=tables))
    total = min(costs.sessions_max, sum(sessions_max))
    return replace(limits, costs=replace(costs, sessions_max=total, crowding_ms=costs.crowding_ms[:total]))
