"""Moving periods, or the rest of them, to other GPUs with hindsight of the whole schedule: the compiled inner loop.

Decides which single change lowers a potential, summed over GPUs and time, the most; must never know what the potential
stands for. Every GPU keeps its contents over time as a sorted row of breaks, so a change is priced exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from solvers.numba_kernel import inner, kernel

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
RealArray = npt.NDArray[np.float64]

FAR = 1e300
DONE = -1
EPSILON_GIB = 1e-9


class Lines(NamedTuple):
    """Contents of each GPU: content[gpu, i] from at_us[gpu, i] to the next break; the first break is far back."""

    at_us: LongArray  # [gpus, breaks]
    content: IntArray  # [gpus, breaks]
    size: LongArray  # [gpus]


class Chains(NamedTuple):
    """Pieces; those of one period are linked in time and on different GPUs. A piece of no length is gone."""

    class_index: IntArray
    gpu: IntArray
    start_us: LongArray
    end_us: LongArray
    before: IntArray  # -1: none
    after: IntArray
    fixed: npt.NDArray[np.bool_]  # must stay as it is
    pinned: npt.NDArray[np.bool_]  # must stay where it starts, for one epoch at least
    period: IntArray
    used: LongArray  # [1]


class Moves(NamedTuple):
    """Migrations at each epoch boundary, and their limits."""

    made: LongArray  # [epochs + 1]
    gib: RealArray  # [epochs + 1]
    out: IntArray  # [gpus, epochs + 1]
    into: IntArray  # [gpus, epochs + 1]
    leaving_gib: RealArray  # [gpus, epochs + 1]
    epoch_us: int
    count_max: int
    out_max: int
    in_max: int
    gib_max: float


class Costs(NamedTuple):
    """Contents of all GPU types, one after another."""

    add: IntArray  # [contents, classes]
    remove: IntArray  # [contents, classes]
    memory_gib: RealArray  # [contents]
    potential: RealArray  # [contents]: grows with every session
    alone: RealArray  # [classes]: the least potential of one session
    state_gib: RealArray  # [classes]
    gpu_memory_gib: RealArray  # [gpus]


@inner
def locate(lines: Lines, gpu: int, at_us: int) -> int:
    """The last break at or before an instant."""
    low = 0
    high = lines.size[gpu] - 1
    while low < high:
        middle = (low + high + 1) // 2
        if lines.at_us[gpu, middle] <= at_us:
            low = middle
        else:
            high = middle - 1
    return low


@inner
def _break_at(lines: Lines, gpu: int, at_us: int) -> int:
    """The break at exactly this instant, inserted if need be."""
    i = locate(lines, gpu, at_us)
    if lines.at_us[gpu, i] == at_us:
        return i
    n = lines.size[gpu]
    for j in range(n, i + 1, -1):
        lines.at_us[gpu, j] = lines.at_us[gpu, j - 1]
        lines.content[gpu, j] = lines.content[gpu, j - 1]
    lines.at_us[gpu, i + 1] = at_us
    lines.content[gpu, i + 1] = lines.content[gpu, i]
    lines.size[gpu] = n + 1
    return i + 1


@inner
def _join_at(lines: Lines, gpu: int, at_us: int) -> None:
    """Drop a break that changes nothing."""
    i = locate(lines, gpu, at_us)
    if i == 0 or lines.at_us[gpu, i] != at_us or lines.content[gpu, i] != lines.content[gpu, i - 1]:
        return
    n = lines.size[gpu]
    for j in range(i, n - 1):
        lines.at_us[gpu, j] = lines.at_us[gpu, j + 1]
        lines.content[gpu, j] = lines.content[gpu, j + 1]
    lines.size[gpu] = n - 1


@inner
def shift(lines: Lines, table: IntArray, gpu: int, k: int, start_us: int, end_us: int) -> None:
    """One session more or fewer (`table` is `add` or `remove`) during [start, end)."""
    i = _break_at(lines, gpu, start_us)
    last = _break_at(lines, gpu, end_us)
    while i < last:
        lines.content[gpu, i] = table[lines.content[gpu, i], k]
        i += 1
    _join_at(lines, gpu, end_us)
    _join_at(lines, gpu, start_us)


@inner
def touch(touched: IntArray, moves: Moves, gpu: int, start_us: int, end_us: int, now: int) -> None:
    """Note in which pass the contents of a GPU changed, per epoch."""
    for epoch in range(start_us // moves.epoch_us, (end_us - 1) // moves.epoch_us + 1):
        touched[gpu, epoch] = now


@inner
def charge(chains: Chains, moves: Moves, costs: Costs, piece: int, sign: int) -> None:
    """Count, or discount, the migration from `piece` to the next of its period."""
    following = chains.after[piece]
    if following < 0:
        return
    epoch = chains.start_us[following] // moves.epoch_us
    gib = costs.state_gib[chains.class_index[piece]]
    moves.made[epoch] += sign
    moves.gib[epoch] += sign * gib
    moves.out[chains.gpu[piece], epoch] += sign
    moves.into[chains.gpu[following], epoch] += sign
    moves.leaving_gib[chains.gpu[piece], epoch] += sign * gib


@kernel
def build(lines: Lines, chains: Chains, moves: Moves, costs: Costs) -> None:
    """Contents and migrations from the pieces."""
    for piece in range(chains.used[0]):
        shift(
            lines, costs.add, chains.gpu[piece], chains.class_index[piece], chains.start_us[piece], chains.end_us[piece]
        )
        if not chains.fixed[piece]:
            charge(chains, moves, costs, piece, 1)


@kernel
def total(lines: Lines, costs: Costs) -> float:
    """The potential, summed over GPUs and time."""
    result = 0.0
    for gpu in range(lines.size.shape[0]):
        for i in range(1, lines.size[gpu] - 1):
            result += costs.potential[lines.content[gpu, i]] * (lines.at_us[gpu, i + 1] - lines.at_us[gpu, i])
    return result


@inner
def _gains(lines: Lines, chains: Chains, moves: Moves, costs: Costs, piece: int, gains: RealArray) -> None:
    """gains[j]: change of the potential where the piece leaves its GPU at its start (0) or the j-th boundary after."""
    gpu = chains.gpu[piece]
    k = chains.class_index[piece]
    start_us = chains.start_us[piece]
    until_us = chains.end_us[piece]
    first = start_us // moves.epoch_us
    j = gains.shape[0] - 1
    i = locate(lines, gpu, until_us - 1)
    changed = 0.0
    while True:
        since_us = max(lines.at_us[gpu, i], start_us)
        content = lines.content[gpu, i]
        rate = costs.potential[costs.remove[content, k]] - costs.potential[content]
        while j > 0 and (first + j) * moves.epoch_us >= since_us:
            gains[j] = changed + rate * (until_us - (first + j) * moves.epoch_us)
            j -= 1
        changed += rate * (until_us - since_us)
        if since_us == start_us:
            break
        until_us = since_us
        i -= 1
    gains[0] = changed


@inner
def may_leave_at(lines: Lines, moves: Moves, costs: Costs, gpu: int, epoch: int, more_gib: float) -> bool:
    """Whether the GPU may be the source of one more migration, `more_gib` beyond what it holds at the boundary now."""
    if moves.out[gpu, epoch] + 1 > moves.out_max:
        return False
    held = costs.memory_gib[lines.content[gpu, locate(lines, gpu, epoch * moves.epoch_us)]]
    fits: bool = moves.leaving_gib[gpu, epoch] + held + more_gib <= costs.gpu_memory_gib[gpu] + EPSILON_GIB
    return fits


@inner
def may_join(
    lines: Lines, chains: Chains, moves: Moves, costs: Costs, piece: int, other: int, j: int, more_gib: float
) -> bool:
    """Whether the budgets admit that the piece goes to `other` at its j-th boundary, or is there from its start.

    `more_gib` comes to the GPU that it leaves at that boundary, in exchange.
    """
    k = chains.class_index[piece]
    before = chains.before[piece]
    after = chains.after[piece]
    epoch = chains.start_us[piece] // moves.epoch_us + j
    if j == 0:
        if before >= 0 and chains.gpu[before] != other and moves.into[other, epoch] + 1 > moves.in_max:
            return False
    else:
        if moves.made[epoch] + 1 > moves.count_max or moves.into[other, epoch] + 1 > moves.in_max:
            return False
        if moves.gib[epoch] + costs.state_gib[k] > moves.gib_max + EPSILON_GIB:
            return False
        if not may_leave_at(lines, moves, costs, chains.gpu[piece], epoch, more_gib):
            return False
    if after >= 0 and chains.gpu[after] != other:
        return may_leave_at(lines, moves, costs, other, chains.start_us[after] // moves.epoch_us, costs.state_gib[k])
    return True


@inner
def _best_tail(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    piece: int,
    gains: RealArray,
    gpu_from: int,
    gpu_to: int,
    gain_min: float,
) -> tuple[float, int, int]:
    """The largest fall of the potential, the GPU and the boundary number; (.., -1, 0) if nothing gains `gain_min`."""
    home = chains.gpu[piece]
    k = chains.class_index[piece]
    start_us = chains.start_us[piece]
    first = start_us // moves.epoch_us
    best = -gain_min
    chosen = -1
    chosen_j = 0
    for other in range(gpu_from, gpu_to):
        if other == home:
            continue
        until_us = chains.end_us[piece]
        i = locate(lines, other, until_us - 1)
        j = gains.shape[0] - 1
        cost = 0.0
        while True:
            since_us = max(lines.at_us[other, i], start_us)
            content = lines.content[other, i]
            grown = costs.add[content, k]
            if grown < 0:
                break
            rate = costs.potential[grown] - costs.potential[content]
            crowded = False
            while j > 0 and (first + j) * moves.epoch_us >= since_us:
                leaving = moves.leaving_gib[other, first + j]
                if leaving > 0 and leaving + costs.memory_gib[grown] > costs.gpu_memory_gib[other] + EPSILON_GIB:
                    crowded = True
                    break
                change = cost + rate * (until_us - (first + j) * moves.epoch_us) + gains[j]
                if change < best and may_join(lines, chains, moves, costs, piece, other, j, 0.0):
                    best = change
                    chosen = other
                    chosen_j = j
                j -= 1
            cost += rate * (until_us - since_us)
            if crowded or cost + gains[0] + costs.alone[k] * (since_us - start_us) >= best:
                break
            if since_us == start_us:
                if start_us == first * moves.epoch_us:
                    leaving = moves.leaving_gib[other, first]
                    if leaving > 0 and leaving + costs.memory_gib[grown] > costs.gpu_memory_gib[other] + EPSILON_GIB:
                        break
                if not chains.pinned[piece] and may_join(lines, chains, moves, costs, piece, other, 0, 0.0):
                    best = cost + gains[0]
                    chosen = other
                    chosen_j = 0
                break
            until_us = since_us
            i -= 1
    return best, chosen, chosen_j


@inner
def _absorb(chains: Chains, piece: int) -> None:
    """Let a piece take over the next of its period, which is on the same GPU."""
    gone = chains.after[piece]
    chains.end_us[piece] = chains.end_us[gone]
    chains.after[piece] = chains.after[gone]
    if chains.after[gone] >= 0:
        chains.before[chains.after[gone]] = piece
    chains.start_us[gone] = chains.end_us[gone]


@inner
def relink(chains: Chains, moves: Moves, costs: Costs, piece: int, other: int, j: int) -> int:
    """Note that the piece is on `other` from its start (0) or its j-th boundary on; returns the piece now there."""
    charge(chains, moves, costs, piece, -1)
    moved = piece
    if j == 0:
        before = chains.before[piece]
        if before >= 0:
            charge(chains, moves, costs, before, -1)
        chains.gpu[piece] = other
        if before >= 0:
            if chains.gpu[before] == other:
                _absorb(chains, before)
                moved = before
            else:
                charge(chains, moves, costs, before, 1)
    else:
        moved = chains.used[0]
        chains.used[0] = moved + 1
        at_us = (chains.start_us[piece] // moves.epoch_us + j) * moves.epoch_us
        chains.class_index[moved] = chains.class_index[piece]
        chains.gpu[moved] = other
        chains.start_us[moved] = at_us
        chains.end_us[moved] = chains.end_us[piece]
        chains.before[moved] = piece
        chains.after[moved] = chains.after[piece]
        chains.fixed[moved] = False
        chains.pinned[moved] = False
        chains.period[moved] = chains.period[piece]
        if chains.after[moved] >= 0:
            chains.before[chains.after[moved]] = moved
        chains.after[piece] = moved
        chains.end_us[piece] = at_us
        charge(chains, moves, costs, piece, 1)
    if chains.after[moved] >= 0 and chains.gpu[chains.after[moved]] == other:
        charge(chains, moves, costs, chains.after[moved], -1)
        _absorb(chains, moved)
    charge(chains, moves, costs, moved, 1)
    return moved


@kernel
def improve(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    touched: IntArray,
    now: int,
    first: int,
    last: int,
    gain_min: float,
    split: bool,
) -> tuple[int, float]:
    """Try every piece of [first, last) once.

    Returns where it must be called again with more room, or `DONE`, and the change of the potential. Without `split` no
    piece is cut in two. What changes is `touched` in pass `now`.
    """
    gpus = lines.size.shape[0]
    changed = 0.0
    for piece in range(first, last):
        start_us = chains.start_us[piece]
        end_us = chains.end_us[piece]
        if chains.fixed[piece] or start_us == end_us:
            continue
        boundaries = (end_us - 1) // moves.epoch_us - start_us // moves.epoch_us if split else 0
        gains = np.zeros(boundaries + 1)
        _gains(lines, chains, moves, costs, piece, gains)
        if gains[0] + costs.alone[chains.class_index[piece]] * (end_us - start_us) >= -gain_min:
            continue
        change, other, j = _best_tail(lines, chains, moves, costs, piece, gains, 0, gpus, gain_min)
        if other < 0:
            continue
        room = lines.at_us.shape[1] - 2
        if lines.size[other] > room or lines.size[chains.gpu[piece]] > room or chains.used[0] >= len(chains.gpu):
            return piece, changed
        at_us = start_us if j == 0 else (start_us // moves.epoch_us + j) * moves.epoch_us
        shift(lines, costs.remove, chains.gpu[piece], chains.class_index[piece], at_us, end_us)
        shift(lines, costs.add, other, chains.class_index[piece], at_us, end_us)
        touch(touched, moves, chains.gpu[piece], at_us, end_us, now)
        touch(touched, moves, other, at_us, end_us, now)
        relink(chains, moves, costs, piece, other, j)
        changed += change
    return DONE, changed
