"""Exchanging two sessions between GPUs with hindsight of the whole schedule: the compiled inner loop.

Decides which pairs of pieces swap their GPUs, wholly or from an epoch boundary on; must never know what the potential
that falls stands for.
"""

from __future__ import annotations

from solvers.latency_kernel import (
    DONE,
    EPSILON_GIB,
    FAR,
    Chains,
    Costs,
    IntArray,
    Lines,
    LongArray,
    Moves,
    locate,
    may_join,
    relink,
    shift,
    touch,
)
from solvers.numba_kernel import inner, kernel


@inner
def _replaced(
    lines: Lines,
    costs: Costs,
    gpu: int,
    k_out: int,
    out_since_us: int,
    out_until_us: int,
    k_in: int,
    in_since_us: int,
    in_until_us: int,
) -> float:
    """Change of the potential where one session leaves a GPU and another comes; `FAR` if they do not fit."""
    until_us = max(out_until_us, in_until_us)
    at_us = min(out_since_us, in_since_us)
    i = locate(lines, gpu, at_us)
    change = 0.0
    while at_us < until_us:
        next_us = until_us
        if i + 1 < lines.size[gpu]:
            next_us = min(next_us, lines.at_us[gpu, i + 1])
        before = lines.content[gpu, i]
        after = before
        while at_us < next_us:
            stop_us = next_us
            after = before
            if at_us < out_since_us:
                stop_us = min(stop_us, out_since_us)
            elif at_us < out_until_us:
                stop_us = min(stop_us, out_until_us)
                after = costs.remove[after, k_out]
            if at_us < in_since_us:
                stop_us = min(stop_us, in_since_us)
            elif at_us < in_until_us:
                stop_us = min(stop_us, in_until_us)
                after = costs.add[after, k_in]
                if after < 0:
                    return FAR
            change += (costs.potential[after] - costs.potential[before]) * (stop_us - at_us)
            at_us = stop_us
        i += 1
    return change


@inner
def _leaves_room(lines: Lines, moves: Moves, costs: Costs, gpu: int, k: int, since_us: int, until_us: int) -> bool:
    """Whether one more session on top fits beside all states that leave the GPU at boundaries in [since, until)."""
    first = -(-since_us // moves.epoch_us)
    for epoch in range(first, (until_us - 1) // moves.epoch_us + 1):
        leaving = moves.leaving_gib[gpu, epoch]
        if leaving > 0:
            held = costs.memory_gib[lines.content[gpu, locate(lines, gpu, epoch * moves.epoch_us)]]
            if leaving + held + costs.state_gib[k] > costs.gpu_memory_gib[gpu] + EPSILON_GIB:
                return False
    return True


@inner
def _since(chains: Chains, moves: Moves, piece: int, j: int) -> int:
    start_us: int = chains.start_us[piece]
    if j == 0:
        return start_us
    return (start_us // moves.epoch_us + j) * moves.epoch_us


@inner
def _may_swap(lines: Lines, chains: Chains, moves: Moves, costs: Costs, p: int, p_j: int, q: int, q_j: int) -> bool:
    """Whether budgets and memory admit the swap; a little stricter than they are."""
    p_gpu, q_gpu = chains.gpu[p], chains.gpu[q]
    p_k, q_k = chains.class_index[p], chains.class_index[q]
    if not may_join(lines, chains, moves, costs, p, q_gpu, p_j, costs.state_gib[q_k]):
        return False
    if not may_join(lines, chains, moves, costs, q, p_gpu, q_j, costs.state_gib[p_k]):
        return False
    p_us, q_us = _since(chains, moves, p, p_j), _since(chains, moves, q, q_j)
    if p_j > 0 and q_j > 0 and p_us == q_us:
        epoch = p_us // moves.epoch_us
        if moves.made[epoch] + 2 > moves.count_max:
            return False
        if moves.gib[epoch] + costs.state_gib[p_k] + costs.state_gib[q_k] > moves.gib_max + EPSILON_GIB:
            return False
    if not _leaves_room(lines, moves, costs, q_gpu, p_k, p_us, chains.end_us[p]):
        return False
    return _leaves_room(lines, moves, costs, p_gpu, q_k, q_us, chains.end_us[q])


@inner
def _swap_change(
    lines: Lines, chains: Chains, moves: Moves, costs: Costs, p: int, p_j: int, q: int, q_j: int, enough: float
) -> float:
    """Change of the potential; `FAR` if it is not below `enough`."""
    p_us, q_us = _since(chains, moves, p, p_j), _since(chains, moves, q, q_j)
    p_end_us, q_end_us = chains.end_us[p], chains.end_us[q]
    p_k, q_k = chains.class_index[p], chains.class_index[q]
    change = _replaced(lines, costs, chains.gpu[p], p_k, p_us, p_end_us, q_k, q_us, q_end_us)
    if change >= FAR:
        return FAR
    change += _replaced(lines, costs, chains.gpu[q], q_k, q_us, q_end_us, p_k, p_us, p_end_us)
    return change if change < enough else FAR


@inner
def _swap(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    touched: IntArray,
    now: int,
    p: int,
    p_j: int,
    q: int,
    q_j: int,
) -> tuple[int, int]:
    """Carry the swap out; returns the pieces that are now on each other's GPU."""
    p_gpu, q_gpu = chains.gpu[p], chains.gpu[q]
    p_us, q_us = _since(chains, moves, p, p_j), _since(chains, moves, q, q_j)
    p_end_us, q_end_us = chains.end_us[p], chains.end_us[q]
    p_k, q_k = chains.class_index[p], chains.class_index[q]
    shift(lines, costs.remove, p_gpu, p_k, p_us, p_end_us)
    shift(lines, costs.remove, q_gpu, q_k, q_us, q_end_us)
    shift(lines, costs.add, q_gpu, p_k, p_us, p_end_us)
    shift(lines, costs.add, p_gpu, q_k, q_us, q_end_us)
    for gpu in (p_gpu, q_gpu):
        touch(touched, moves, gpu, min(p_us, q_us), max(p_end_us, q_end_us), now)
    return relink(chains, moves, costs, p, q_gpu, p_j), relink(chains, moves, costs, q, p_gpu, q_j)


@inner
def _best_partner(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    members: IntArray,
    count: LongArray,
    piece: int,
    piece_j: int,
    at_us: int,
    touched: IntArray,
    since: int,
    gain_min: float,
    split: bool,
) -> tuple[float, int, int]:
    """The session on another GPU at this instant whose exchange with the piece lowers the potential most."""
    best = -gain_min
    partner = -1
    partner_j = 0
    gpu = chains.gpu[piece]
    k = chains.class_index[piece]
    content = lines.content[gpu, locate(lines, gpu, at_us)]
    boundary = at_us // moves.epoch_us  # the last one
    for other in range(lines.size.shape[0]):
        if other == gpu or count[other] == 0:
            continue
        if touched[other, boundary] < since and touched[gpu, boundary] < since:
            continue
        other_content = lines.content[other, locate(lines, other, at_us)]
        slot = 0
        while slot < count[other]:
            q = members[other, slot]
            if chains.end_us[q] <= at_us or chains.gpu[q] != other:
                count[other] -= 1
                members[other, slot] = members[other, count[other]]
                continue
            slot += 1
            q_k = chains.class_index[q]
            if q_k == k and piece_j > 0:
                continue
            if q_k != k:
                here = costs.add[costs.remove[content, k], q_k]
                there = costs.add[costs.remove[other_content, q_k], k]
                if here < 0 or there < 0:
                    continue
                now = costs.potential[content] + costs.potential[other_content]
                if costs.potential[here] + costs.potential[there] >= now:
                    continue
            last = boundary - chains.start_us[q] // moves.epoch_us
            whole = not chains.pinned[q] and (piece_j == 0 or chains.start_us[q] == at_us)
            for q_j in (0, last):
                if (q_j == 0 and not whole) or (q_j > 0 and not split):
                    continue
                change = _swap_change(lines, chains, moves, costs, piece, piece_j, q, q_j, best)
                if change < best and _may_swap(lines, chains, moves, costs, piece, piece_j, q, q_j):
                    best = change
                    partner = q
                    partner_j = q_j
                if last == 0:
                    break
    return best, partner, partner_j


@inner
def _enter(members: IntArray, count: LongArray, gpu: int, piece: int) -> None:
    if count[gpu] < members.shape[1]:
        members[gpu, count[gpu]] = piece
        count[gpu] += 1


@inner
def _exchange_tails(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    members: IntArray,
    count: LongArray,
    touched: IntArray,
    since: int,
    epoch: int,
    room: int,
    gain_min: float,
) -> float:
    """Swap pairs from an epoch boundary on; at most a few times as many as there are GPUs."""
    gpus = lines.size.shape[0]
    boundary_us = epoch * moves.epoch_us
    changed = 0.0
    swaps = 0
    for gpu in range(gpus):
        slot = 0
        while slot < count[gpu]:
            p = members[gpu, slot]
            slot += 1
            if swaps >= 4 * gpus or moves.made[epoch] + 1 > moves.count_max or lines.size.max() > room:
                return changed
            if chains.end_us[p] <= boundary_us or chains.start_us[p] >= boundary_us or chains.gpu[p] != gpu:
                continue
            p_j = epoch - chains.start_us[p] // moves.epoch_us
            change, q, q_j = _best_partner(
                lines, chains, moves, costs, members, count, p, p_j, boundary_us, touched, since, gain_min, True
            )
            if q >= 0:
                p_new, q_new = _swap(lines, chains, moves, costs, touched, since + 1, p, p_j, q, q_j)
                _enter(members, count, chains.gpu[p_new], p_new)
                _enter(members, count, chains.gpu[q_new], q_new)
                changed += change
                swaps += 1
    return changed


@kernel
def exchange(
    lines: Lines,
    chains: Chains,
    moves: Moves,
    costs: Costs,
    order: LongArray,
    cursor: LongArray,
    members: IntArray,
    count: LongArray,
    touched: IntArray,
    since: int,
    last: int,
    gain_min: float,
    split: bool,
) -> tuple[int, float]:
    """Sweep over time up to position `last` of `order` (pieces by start) and swap pairs that are active together.

    Returns the position where more room is needed, or `DONE`, and the change of the potential. `cursor` holds the
    position and the next boundary; `members` and `count` who is on each GPU. Pairs whose GPUs were both last `touched`
    before pass `since`, then, are left alone.
    """
    gpus = lines.size.shape[0]
    room = lines.at_us.shape[1] - 6
    changed = 0.0
    while cursor[0] < last:
        if lines.size.max() > room or chains.used[0] + 8 * gpus + 2 > len(chains.gpu):
            return cursor[0], changed
        piece = order[cursor[0]]
        at_us = chains.start_us[piece]
        if at_us == chains.end_us[piece] or chains.fixed[piece]:
            cursor[0] += 1
            continue
        if cursor[1] * moves.epoch_us < at_us:
            if split:
                changed += _exchange_tails(
                    lines, chains, moves, costs, members, count, touched, since, cursor[1], room, gain_min
                )
            cursor[1] += 1
            continue
        cursor[0] += 1
        entered = piece
        if not chains.pinned[piece]:
            change, q, q_j = _best_partner(
                lines, chains, moves, costs, members, count, piece, 0, at_us, touched, since, gain_min, split
            )
            if q >= 0:
                entered, q_new = _swap(lines, chains, moves, costs, touched, since + 1, piece, 0, q, q_j)
                _enter(members, count, chains.gpu[q_new], q_new)
                changed += change
        _enter(members, count, chains.gpu[entered], entered)
    if split and last == len(order):
        while cursor[1] + 1 < moves.made.shape[0] and chains.used[0] + 8 * gpus + 2 <= len(chains.gpu):
            changed += _exchange_tails(
                lines, chains, moves, costs, members, count, touched, since, cursor[1], room, gain_min
            )
            cursor[1] += 1
    return DONE, changed
