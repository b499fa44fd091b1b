"""Everything a GPU may do within one latency limit, as patterns, and the rows that patterns have to satisfy together.

Decides which sessions may leave and how many may enter at a limit, for all GPUs at once; must never know how patterns
are chosen, nor which GPU ends up with which.

At a limit L a class k has a capacity per GPU type: at most so many sessions are on a GPU that it is on, its own
included. Classes with equal capacities are one capacity level, in these modules called a level. A pattern of a GPU is a
multiset of levels that leave it, and a cap c, one of the capacities: levels with capacity >= c may then enter, until
there are c sessions in all. Whoever leaves has to enter elsewhere, and all who wait have to enter: by Hall's theorem
that is possible exactly if, for all sets of levels Q2 within Q1,

    slots that admit some level of Q2, plus slots for migrants that admit some level of Q1 only
        >= waiting sessions of Q2 + sessions that leave, of Q1.

Memory is relaxed to a number of the smallest states. So if no choice of patterns satisfies the rows, L is too low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from solvers.placement.pattern_ground import Ground
from solvers.placement.pattern_rows import Rows, budget_rows, cover_rows, join
from solvers.placement.problem import BoolArray, IntArray

_SETS_MAX = 96  # sets of levels that get rows; further sets only make the relaxation weaker
_MIXED_MAX = 500  # the same, of sets within sets
_PAIRS_MAX = 400_000  # patterns before caps; more would not be built in time


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Group of equal GPUs x sessions that leave; sorted by group, fewest leaving first."""

    group: IntArray
    gives: IntArray  # [pairs, levels]
    size: IntArray
    stay: IntArray  # sessions that stay
    kind: IntArray
    caps: IntArray  # how many of the caps of the type are open: those that all who stay allow
    moved_mib: IntArray  # the least that may leave; 0 where sizes do not count


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """All patterns at one limit."""

    limit_us: int
    level_of: IntArray  # [classes]; -1: absent
    waiting: IntArray  # [levels]
    slots: IntArray  # [kinds, caps + 1, sessions that stay + 1]: how many may enter
    caps: IntArray  # [types, caps + 1]: distinct capacities ascending from column 1; 0: no such cap
    admits: BoolArray  # [types, caps + 1, levels]
    kinds: IntArray  # [kinds, 3 + levels]: type, arrivals at most, leaving or not, room for each level
    group_of: IntArray  # [gpus]
    size: IntArray  # [groups]: GPUs in it
    pairs: Pairs
    starts: IntArray  # [groups]: its first pair
    rows: Rows

    @property
    def kind_type(self) -> IntArray:
        return self.kinds[:, 0]

    @property
    def kind_leaving(self) -> BoolArray:
        return self.kinds[:, 2] > 0


def build(given: Ground, limit_us: int, *, sizes: bool = False) -> Level | str:
    """The patterns at a limit; or why there are none, beginning with "too low" if that proves the limit too low.

    With `sizes`, or if their budget may bind, GPUs are only equal if as many MiB leave with each pattern.
    """
    capacity = _capacity(given, limit_us)
    if ((given.waiting > 0) & (capacity.max(axis=0) == 0)).any():
        return "too low: a class that waits fits nowhere"
    level_of, cap = _levels(capacity, given.present)
    levels = cap.shape[1]
    content = np.zeros((len(given.gpu_type), levels), dtype=np.int64)
    for k in np.flatnonzero(given.present):
        content[:, level_of[k]] += given.running[:, k]
    caps, admits = _caps(cap)
    smallest_mib = np.full(levels, 1 << 40, dtype=np.int64)
    np.minimum.at(smallest_mib, level_of[given.present], given.entering_mib[given.present])
    most = cap[given.gpu_type].max(axis=1) - content.sum(axis=1) + given.give_most
    room = given.free_mib[:, None] // smallest_mib
    room = np.where(room >= most[:, None], int(caps.max(initial=0)), room)  # equal where memory does not bind
    arrive = np.minimum(given.arrive_most, room.max(axis=1))
    kinds, kind_of = _distinct(np.column_stack([given.gpu_type, arrive, given.leaving, room]))
    seen = np.minimum(content, given.give_most[:, None] + 1)
    sizes = sizes or given.moved_mib_max < given.moves_max * int(given.state_mib.max())
    leaves_mib = _leaves_mib(given, level_of, levels) if sizes else np.zeros((len(content), 0), dtype=np.int64)
    groups, group_of = _distinct(np.column_stack([kind_of, given.give_most, content.sum(axis=1), seen, leaves_mib]))
    pairs = _pairs(groups, kinds[:, 0], cap, caps)
    if pairs is None:
        return "too many patterns"
    starts = np.searchsorted(pairs.group, np.arange(len(groups)))
    if len(np.unique(pairs.group)) < len(groups):
        return "too low: a GPU cannot give enough"
    waiting = np.zeros(levels, dtype=np.int64)
    np.add.at(waiting, level_of[given.present], given.waiting[given.present])
    sets = _sets(admits)
    wide = np.concatenate([sets, sets])
    narrow = np.concatenate([sets, np.zeros_like(sets)])
    slots = _slots(kinds, caps, int(pairs.stay.max(initial=0)))
    budget = budget_rows(given, levels, slots.shape, sizes=sizes)
    cover = cover_rows(wide, narrow, waiting, slots, kinds, admits)
    return Level(
        limit_us=limit_us,
        level_of=level_of,
        waiting=waiting,
        slots=slots,
        caps=caps,
        admits=admits,
        kinds=kinds,
        group_of=group_of,
        size=np.bincount(group_of, minlength=len(groups)),
        pairs=pairs,
        starts=starts,
        rows=join(cover, budget),
    )


def _capacity(given: Ground, limit_us: int) -> IntArray:
    """Most sessions on a GPU with a class present [types, classes]; 0: the class may not be there."""
    limit = np.minimum(limit_us, given.late_us)
    last = given.common_us.shape[1] - 1
    everybody = int(given.running.sum() + given.waiting.sum())
    capacity = np.zeros(given.base_us.shape, dtype=np.int64)
    for t in range(len(capacity)):
        fit = np.searchsorted(given.common_us[t], limit - given.base_us[t], side="right") - 1
        capacity[t] = np.where(fit == last, everybody, np.maximum(fit, 0))
    return capacity


def _levels(capacity: IntArray, present: BoolArray) -> tuple[IntArray, IntArray]:
    """Merge classes that are present and have equal capacities, roomiest level first."""
    columns, inverse = np.unique(-capacity[:, present], axis=1, return_inverse=True)
    level_of = np.full(capacity.shape[1], -1, dtype=np.int64)
    level_of[present] = inverse.ravel()
    return level_of, -columns


def _caps(cap: IntArray) -> tuple[IntArray, BoolArray]:
    """Distinct capacities of each type, and which levels each admits."""
    distinct = [np.unique(row[row > 0]) for row in cap]
    caps = np.zeros((len(cap), 1 + max(len(d) for d in distinct)), dtype=np.int64)
    for t, values in enumerate(distinct):
        caps[t, 1 : 1 + len(values)] = values
    return caps, (caps[:, :, None] > 0) & (cap[:, None, :] >= caps[:, :, None])


def _distinct(rows: IntArray) -> tuple[IntArray, IntArray]:
    """Distinct rows and which one each row is; by a hash that is checked, as sorting rows is slow."""
    rows = rows.astype(np.int64)
    factors = np.random.default_rng(0).integers(1, 1 << 62, rows.shape[1]) | 1
    _, first, inverse = np.unique((rows * factors).sum(axis=1), return_index=True, return_inverse=True)
    if (rows[first][inverse] == rows).all():
        return rows[first], inverse
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    return unique, inverse.ravel()


def _leaves_mib(given: Ground, level_of: IntArray, levels: int) -> IntArray:
    """The least MiB of 0, 1, 2 ... sessions of each level [gpus, levels * (most that leave + 1)]."""
    most = int(given.give_most.max(initial=0))
    before = np.zeros((len(given.gpu_type), levels), dtype=np.int64)
    least = np.zeros((len(given.gpu_type), levels, most + 1), dtype=np.int64)
    for k in sorted(np.flatnonzero(given.present).tolist(), key=lambda k: int(given.state_mib[k])):
        q, nth = level_of[k], np.arange(1, most + 1)
        until = before[:, q] + given.running[:, k]
        mine = (nth > before[:, q, None]) & (nth <= until[:, None])
        least[:, q, 1:] += np.where(mine, given.state_mib[k], 0)
        before[:, q] = until
    return np.cumsum(least, axis=2).reshape(len(before), -1)


def _pairs(groups: IntArray, kind_type: IntArray, cap: IntArray, caps: IntArray) -> Pairs | None:
    """Every multiset of levels that may leave each group, such that whoever stays is within capacity."""
    levels = cap.shape[1]
    kind, give_most, total, content = groups[:, 0], groups[:, 1], groups[:, 2], groups[:, 3 : 3 + levels]
    leaves_mib = groups[:, 3 + levels :].reshape(len(groups), levels, -1)
    members, gives, last = np.arange(len(groups)), np.zeros_like(content), np.zeros(len(groups), dtype=np.int64)
    all_members, all_gives = [members], [gives]
    for size in range(1, int(give_most.max(initial=0)) + 1):
        more = (content[members] > gives) & (np.arange(levels) >= last[:, None])
        more &= (give_most[members] >= size)[:, None]
        parent, last = np.nonzero(more)
        members, gives = members[parent], gives[parent]
        gives[np.arange(len(gives)), last] += 1
        all_members.append(members)
        all_gives.append(gives)
        if sum(len(m) for m in all_members) > _PAIRS_MAX:
            return None
    members, gives = np.concatenate(all_members), np.concatenate(all_gives)
    size = gives.sum(axis=1)
    stay = total[members] - size
    gpu_type = kind_type[kind[members]]
    allowed = np.where(content[members] > gives, cap[gpu_type], np.iinfo(np.int64).max).min(axis=1)
    fits = np.flatnonzero(stay <= allowed)
    order = fits[np.lexsort((size[fits], members[fits]))]
    moved_mib = np.zeros_like(size)
    if leaves_mib.size:
        moved_mib = leaves_mib[members[:, None], np.arange(levels), gives].sum(axis=1)
    open_caps = ((caps[gpu_type] <= allowed[:, None]) & (caps[gpu_type] > 0)).sum(axis=1)
    return Pairs(
        group=members[order],
        gives=gives[order],
        size=size[order],
        stay=stay[order],
        kind=kind[members[order]],
        caps=open_caps[order],
        moved_mib=moved_mib[order],
    )


def _sets(admits: BoolArray) -> BoolArray:
    """Sets of levels for which Hall's condition can bind: complements of unions of what caps admit."""
    families = {frozenset(np.flatnonzero(row).tolist()) for row in admits.reshape(-1, admits.shape[2])}
    unions = {frozenset[int]()}
    for family in sorted(families, key=sorted):
        grown = unions | {union | family for union in unions}
        if len(grown) > _SETS_MAX:
            unions |= families
            break
        unions = grown
    sets = [[level not in union for level in range(admits.shape[2])] for union in sorted(unions, key=sorted)]
    chosen = np.array(sets, dtype=np.bool_).reshape(-1, admits.shape[2])
    return chosen[chosen.any(axis=1)]


def _slots(kinds: IntArray, caps: IntArray, most: int) -> IntArray:
    """How many may enter, by kind, cap and who stays; nobody with cap 0."""
    slots = caps[kinds[:, 0]][:, :, None] - np.arange(most + 1)
    return np.asarray(np.clip(slots, 0, kinds[:, 3:].max(axis=1)[:, None, None]), dtype=np.int64)


def violated_rows(level: Level, pair: IntArray, cap: IntArray) -> Rows | None:
    """The rows of Hall's condition that are not built at first (Q2 not empty, strictly within Q1) and do not hold."""
    sets = level.rows.narrow[level.rows.narrow.any(axis=1)]
    within = (sets[:, None, :] <= sets[None, :, :]).all(axis=2) & ~np.eye(len(sets), dtype=np.bool_)
    small, large = np.nonzero(within)
    narrow, wide = sets[small], sets[large]
    if not len(wide) or len(wide) > _MIXED_MAX:
        return None
    kind = level.pairs.kind[pair]
    admits = level.admits[level.kind_type[kind], cap]
    room = np.where(wide, level.kinds[:, None, 3:], 0).max(axis=2)[kind]
    slots = np.minimum(level.slots[kind, cap, level.pairs.stay[pair]][:, None], room)
    hosts = np.minimum(slots, level.kinds[kind, 1][:, None])
    gain = np.where(admits @ narrow.T, slots, np.where(admits @ wide.T, hosts, 0)).sum(axis=0)
    gain -= level.pairs.gives[pair].sum(axis=0) @ wide.T
    broken = np.flatnonzero(gain < narrow @ level.waiting)
    if not len(broken):
        return None
    return cover_rows(wide[broken], narrow[broken], level.waiting, level.slots, level.kinds, level.admits)
