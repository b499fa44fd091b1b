"""The offline problem solved by trying everything, microsecond by microsecond.

Decides the true optimum of tiny problems from the rules alone; must never know how the solvers under test reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from solvers.offline_problem import NEVER_ON, OfflineProblem, OfflineSolution

NOWHERE = -1
EPS = 1e-9

Key = tuple[float, ...]


def latency_of(problem: OfflineProblem, gpu: int, counts: tuple[int, ...]) -> float:
    """f_g as problem.md defines it, infinity if the batch was not measured."""
    costs = problem.types[int(problem.gpu_type[gpu])].costs
    total = sum(counts)
    if total == 0:
        return 0.0
    if costs.batching == "grouped":
        latency = 0.0
        for table, n in zip(costs.tables_ms, counts, strict=True):
            if n > len(table):
                return float("inf")
            latency += table[n - 1] if n else 0.0
        return latency
    if total > costs.sessions_max:
        return float("inf")
    if costs.batching == "packed":
        return costs.fixed_ms + sum((n * own for n, own in zip(counts, costs.per_session_ms, strict=True) if n), 0.0)
    return max(own for n, own in zip(counts, costs.base_ms, strict=True) if n) + costs.crowding_ms[total - 1]


def late_of(problem: OfflineProblem, gpu: int, counts: tuple[int, ...]) -> int:
    latency = latency_of(problem, gpu, counts)
    return sum(n for n, target in zip(counts, problem.target_ms, strict=True) if n and latency > target + EPS)


def counts_on(problem: OfflineProblem, where: tuple[int, ...], gpu: int) -> tuple[int, ...]:
    """Sessions per class on one GPU; `where` [periods]."""
    return tuple(
        sum(1 for period, place in enumerate(where) if place == gpu and problem.class_index[period] == k)
        for k in range(problem.classes)
    )


def gib_of(problem: OfflineProblem, counts: tuple[int, ...]) -> float:
    return sum(n * state for n, state in zip(counts, problem.state_gib, strict=True))


@dataclass(frozen=True)
class OnPattern:
    """Spans of one GPU: what they cost and in which microseconds the GPU is usable."""

    dollars: float
    usable: frozenset[int]
    spans: tuple[tuple[int, int], ...]


def on_patterns(problem: OfflineProblem, gpu: int, *, throughout: bool) -> list[OnPattern]:
    """Every way to pay for a GPU, the cheapest per set of usable microseconds."""
    gpu_type = int(problem.gpu_type[gpu])
    startup_us, known = problem.startup_us[gpu_type], int(problem.gpu_on_us[gpu])
    horizon_us = problem.horizon_us
    on_us = known if known != NEVER_ON else _soonest_epoch(problem, gpu) * problem.epoch_us
    needed = frozenset(range(max(0, on_us + startup_us), horizon_us))
    best: dict[frozenset[int], OnPattern] = {}
    for spans in _all_spans(problem, gpu):
        usable = frozenset(t for on, off in spans for t in range(max(0, on + startup_us), min(off, horizon_us)))
        never_off = bool(spans) and spans[0][1] >= horizon_us
        if (throughout or problem.gpu_always_on[gpu]) and not (needed <= usable and never_off):
            continue
        dollars = sum(off - on for on, off in spans) / 3.6e9 * problem.price_per_hour[gpu_type]
        if usable not in best or dollars < best[usable].dollars:
            best[usable] = OnPattern(dollars=dollars, usable=usable, spans=spans)
    return sorted(best.values(), key=lambda pattern: pattern.dollars)


def _soonest_epoch(problem: OfflineProblem, gpu: int) -> int:
    epoch_us, startup_us = problem.epoch_us, problem.startup_us[problem.gpu_type[gpu]]
    return max(-int(-(-startup_us // epoch_us)), -(-problem.earliest_on_us // epoch_us))


def _all_spans(problem: OfflineProblem, gpu: int) -> Iterator[tuple[tuple[int, int], ...]]:
    epoch_us, known = problem.epoch_us, int(problem.gpu_on_us[gpu])
    if known == NEVER_ON:
        for blocks in _blocks(_soonest_epoch(problem, gpu), problem.epochs):
            yield tuple((first * epoch_us, last * epoch_us) for first, last in blocks)
        return
    for off in range(1 if known == 0 else 0, problem.epochs + 1):
        for blocks in _blocks(off + 1, problem.epochs):
            head = ((known, off * epoch_us),)
            yield head + tuple((first * epoch_us, last * epoch_us) for first, last in blocks)


def _blocks(first: int, last: int) -> Iterator[list[tuple[int, int]]]:
    """Every set of disjoint, not touching ranges within [first, last)."""
    for bits in itertools.product([False, True], repeat=max(last - first, 0)):
        blocks: list[tuple[int, int]] = []
        for slot, paid in enumerate(bits, start=first):
            if paid and blocks and blocks[-1][1] == slot:
                blocks[-1] = (blocks[-1][0], slot + 1)
            elif paid:
                blocks.append((slot, slot + 1))
        yield blocks


@dataclass(frozen=True)
class Step:
    """One microsecond: where everybody is, and what that counts."""

    where: tuple[int, ...]
    last: tuple[int, ...]
    unserved: Key
    late: int
    session_ms: float
    latency_max: float
    move_dollars: float
    moves: int


Cache = dict[tuple[int, tuple[int, ...], tuple[bool, ...]], list[Step]]


def _steps(problem: OfflineProblem, t: int, last: tuple[int, ...], usable_now: tuple[bool, ...]) -> Iterator[Step]:
    """Every legal next microsecond, given where everybody was last."""
    options: list[list[int]] = []
    for period in range(problem.periods):
        if not problem.start_us[period] <= t < problem.end_us[period]:
            options.append([NOWHERE])
            continue
        possible = [gpu for gpu in range(problem.gpus) if usable_now[gpu]]
        if last[period] != NOWHERE and (t % problem.epoch_us or t == problem.start_us[period]):
            possible = [gpu for gpu in possible if gpu == last[period]]
        if t == 0 and problem.home[period] >= 0:
            possible = [gpu for gpu in possible if gpu == problem.home[period]]
        options.append([NOWHERE, *possible])
    for where in itertools.product(*options):
        step = _step(problem, t, last, where)
        if step is not None:
            yield step


def _step(problem: OfflineProblem, t: int, last: tuple[int, ...], where: tuple[int, ...]) -> Step | None:
    movers = [p for p in range(problem.periods) if NOWHERE not in (where[p], last[p]) and where[p] != last[p]]
    late, session_ms, latency_max = 0, 0.0, 0.0
    for gpu in range(problem.gpus):
        counts = counts_on(problem, where, gpu)
        latency = latency_of(problem, gpu, counts)
        leaving = sum(problem.state_gib[problem.class_index[p]] for p in movers if last[p] == gpu)
        memory_gib = problem.types[problem.gpu_type[gpu]].memory_gib
        if latency == float("inf") or gib_of(problem, counts) + leaving > memory_gib + EPS:
            return None
        if sum(1 for p in movers if last[p] == gpu) > problem.budget.out_per_gpu:
            return None
        if sum(1 for p in movers if where[p] == gpu) > problem.budget.in_per_gpu:
            return None
        late += late_of(problem, gpu, counts)
        session_ms += sum(counts) * latency
        latency_max = max(latency_max, latency)
    if len(movers) > problem.budget.moves:
        return None
    if sum(problem.state_gib[problem.class_index[p]] for p in movers) > problem.budget.gib + EPS:
        return None
    priorities = sorted(set(problem.priority.tolist()), reverse=True)
    active = [p for p in range(problem.periods) if problem.start_us[p] <= t < problem.end_us[p]]
    waiting = [int(problem.priority[p]) for p in active if where[p] == NOWHERE]
    return Step(
        where=where,
        last=tuple(now if now != NOWHERE else before for now, before in zip(where, last, strict=True)),
        unserved=tuple(float(waiting.count(priority)) for priority in priorities),
        late=late,
        session_ms=session_ms,
        latency_max=latency_max,
        move_dollars=sum(move_dollars_of(problem, p, last[p], where[p]) for p in movers),
        moves=len(movers),
    )


def move_dollars_of(problem: OfflineProblem, period: int, source: int, target: int) -> float:
    k = int(problem.class_index[period])
    same = bool(problem.gpu_node[source] == problem.gpu_node[target])
    transfer_s = problem.transfer_same_s[k] if same else problem.transfer_cross_s[k]
    return transfer_s / 3600 * problem.price_per_hour[int(problem.gpu_type[target])]


def cost_optimum(problem: OfflineProblem) -> Key:
    """(unserved per priority ..., late, dollars)"""
    patterns = [on_patterns(problem, gpu, throughout=False) for gpu in range(problem.gpus)]
    combinations = sorted(itertools.product(*patterns), key=lambda chosen: sum(one.dollars for one in chosen))
    everything = [frozenset().union(*(one.usable for one in own)) for own in patterns]
    known: Cache = {}
    floor = _least(problem, everything, "cost", float("inf"), known)
    best: Key | None = None
    for chosen in combinations:
        dollars = sum(one.dollars for one in chosen)
        if best is not None and best[:-1] == floor[:-1] and dollars >= best[-1]:
            break
        key = _least(problem, [one.usable for one in chosen], "cost", float("inf"), known)
        key = (*key[:-1], key[-1] + dollars)
        best = key if best is None else min(best, key)
    assert best is not None
    return best


def latency_optimum(problem: OfflineProblem) -> Key:
    """(unserved per priority ..., worst, sum of n f over time, migrations), all GPUs on throughout."""
    usable = [on_patterns(problem, gpu, throughout=True)[0].usable for gpu in range(problem.gpus)]
    known: Cache = {}
    served = _least(problem, usable, "latency", float("inf"), known)[:-2]
    candidates = {0.0}
    for gpu in range(problem.gpus):
        for counts in itertools.product(range(problem.periods + 1), repeat=problem.classes):
            candidates.add(latency_of(problem, gpu, counts))
    for worst in sorted(candidates):
        key = _least(problem, usable, "latency", worst, known)
        if key[:-2] == served:
            return (*served, worst, *key[-2:])
    raise AssertionError("the worst latency of all is a candidate")


def _least(
    problem: OfflineProblem, usable: list[frozenset[int]], minimize: str, latency_ms_max: float, known: Cache
) -> Key:
    """Dynamic programme over microseconds; the state is where each period was last, `known` are steps found before."""
    best: dict[tuple[int, ...], Key] = {(NOWHERE,) * problem.periods: ()}
    for t in range(problem.horizon_us):
        following: dict[tuple[int, ...], Key] = {}
        usable_now = tuple(t in own for own in usable)
        for last, key in best.items():
            if (t, last, usable_now) not in known:
                known[t, last, usable_now] = list(_steps(problem, t, last, usable_now))
            for step in known[t, last, usable_now]:
                if step.latency_max > latency_ms_max + EPS:
                    continue
                tail = (step.late, step.move_dollars) if minimize == "cost" else (step.session_ms, step.moves)
                own = (*step.unserved, *tail)
                total = tuple(round(a + b, 9) for a, b in zip(key or (0.0,) * len(own), own, strict=True))
                if step.last not in following or total < following[step.last]:
                    following[step.last] = total
        best = following
    return min(best.values())


@dataclass(frozen=True)
class NaiveValue:
    unserved: Key
    late_us: int
    session_us: int
    session_ms_us: float
    latency_max: float
    gpu_dollars: float
    move_dollars: float
    migrations: int


def naive_value(problem: OfflineProblem, solution: OfflineSolution) -> NaiveValue:
    """The objective of a solution, one microsecond and one piece at a time."""
    pieces = list(
        zip(
            solution.piece_period.tolist(),
            solution.piece_gpu.tolist(),
            solution.piece_start_us.tolist(),
            solution.piece_end_us.tolist(),
            strict=True,
        )
    )
    priorities = sorted(set(problem.priority.tolist()), reverse=True)
    unserved = dict.fromkeys(priorities, 0)
    late, session_us, session_ms, worst = 0, 0, 0.0, 0.0
    for t in range(problem.horizon_us):
        where = [NOWHERE] * problem.periods
        for period, gpu, start, end in pieces:
            if start <= t < end:
                where[period] = gpu
        for period in range(problem.periods):
            if problem.start_us[period] <= t < problem.end_us[period] and where[period] == NOWHERE:
                unserved[int(problem.priority[period])] += 1
        for gpu in range(problem.gpus):
            counts = counts_on(problem, tuple(where), gpu)
            latency = latency_of(problem, gpu, counts)
            late += late_of(problem, gpu, counts)
            session_us += sum(counts)
            session_ms += sum(counts) * latency
            worst = max(worst, latency)
    moves = [(a[0], a[1], b[1]) for a, b in itertools.pairwise(pieces) if a[0] == b[0] and a[1] != b[1]]
    gpu_dollars = 0.0
    for gpu, on, off in zip(solution.span_gpu, solution.span_on_us, solution.span_off_us, strict=True):
        gpu_dollars += float(off - on) / 3.6e9 * problem.price_per_hour[problem.gpu_type[gpu]]
    return NaiveValue(
        unserved=tuple(float(unserved[priority]) for priority in priorities),
        late_us=late,
        session_us=session_us,
        session_ms_us=session_ms,
        latency_max=worst,
        gpu_dollars=gpu_dollars,
        move_dollars=sum(move_dollars_of(problem, *move) for move in moves),
        migrations=len(moves),
    )
