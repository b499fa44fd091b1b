"""The best value of a tiny problem by trying everything, GPU by GPU; shares no code with the checker or the solvers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from solvers.placement.problem import NEVER_US, Problem

Tiers = tuple[int, int, int, int, int, int]  # repair, unserved (one rank), meet, leave, balance, move


def best_tiers(problem: Problem) -> Tiers:
    """Least tuple in lexicographic order, without tolerances; all classes must have one rank."""
    assert problem.ranks == 1
    classes = range(problem.classes)
    states: dict[tuple[int, ...], set[tuple[int, int, int, int]]] = {}
    states[(0,) * (2 * problem.classes + 2)] = {(0, 0, 0, 0)}
    for gpu in range(problem.gpus):
        reached: dict[tuple[int, ...], set[tuple[int, int, int, int]]] = {}
        choices = list(_choices(problem, gpu))
        for state, values in states.items():
            for step, (repair, meet, leave, latency_us) in choices:
                key = tuple(a + b for a, b in zip(state, step, strict=True))
                *_, moves, moved_mib = key
                placed = key[problem.classes : 2 * problem.classes]
                if moves > problem.moves_max or moved_mib > problem.moved_mib_max:
                    continue
                if any(placed[k] > problem.waiting[k] for k in classes):
                    continue
                new = {(a + repair, b + meet, c + leave, max(d, latency_us)) for a, b, c, d in values}
                reached[key] = reached.get(key, set()) | new
        states = {key: _undominated(values) for key, values in reached.items()}
    ends = [
        (
            repair,
            int(problem.waiting.sum()) - sum(key[problem.classes : 2 * problem.classes]),
            meet,
            leave,
            worst,
            key[-1],
        )
        for key, values in states.items()
        if not any(key[: problem.classes])
        for repair, meet, leave, worst in values
    ]
    return min(ends)


def _undominated(values: set[tuple[int, int, int, int]]) -> set[tuple[int, int, int, int]]:
    kept: list[tuple[int, int, int, int]] = []
    for value in sorted(values):
        if not any(all(a <= b for a, b in zip(one, value, strict=True)) for one in kept):
            kept.append(value)
    return set(kept)


def _vectors(most: list[int], total: int) -> Iterator[tuple[int, ...]]:
    return (v for v in product(*(range(m + 1) for m in most)) if sum(v) <= total)


def _choices(problem: Problem, gpu: int) -> Iterator[tuple[tuple[int, ...], tuple[int, int, int, int]]]:
    """Everything that one GPU can do: what it adds to the sums, and what it is worth."""
    classes = range(problem.classes)
    now = [int(n) for n in problem.running[gpu]]
    waiting = [int(n) for n in problem.waiting]
    state = [int(s) for s in problem.state_mib]
    many = [min(2, int(problem.in_max[gpu]))] * problem.classes
    for out in _vectors([min(n, int(problem.out_max[gpu])) for n in now], int(problem.out_max[gpu])):
        for arrived in _vectors(many, int(problem.in_max[gpu])):
            if any(out[k] and arrived[k] for k in classes):
                continue
            for placed in _vectors(waiting, sum(waiting)):
                enters = sum(arrived) + sum(placed)
                after = [now[k] - out[k] + arrived[k] + placed[k] for k in classes]
                latency_us = _latency_us(problem, gpu, after)
                held = sum((now[k] + arrived[k] + placed[k]) * state[k] for k in classes)
                forbidden = not problem.receives[gpu] or held > problem.memory_mib[gpu] or latency_us >= NEVER_US
                if enters and forbidden:
                    continue
                moved_mib = sum(out[k] * state[k] for k in classes)
                net = tuple(out[k] - arrived[k] for k in classes)
                yield (*net, *placed, sum(out), moved_mib), _worth(problem, gpu, after, list(arrived), latency_us)


def _latency_us(problem: Problem, gpu: int, after: list[int]) -> int:
    tables, kind, total = problem.tables, int(problem.gpu_type[gpu]), sum(after)
    if not total:
        return 0
    last = tables.alone_us.shape[2] - 1
    alone = sum(int(tables.alone_us[kind, k, min(n, last)]) for k, n in enumerate(after))
    base = max(int(tables.base_us[kind, k]) for k, n in enumerate(after) if n)
    common = int(tables.common_us[kind, min(total, tables.common_us.shape[1] - 1)])
    return min(alone + base + common, NEVER_US)


def _worth(
    problem: Problem, gpu: int, after: list[int], arrived: list[int], latency_us: int
) -> tuple[int, int, int, int]:
    held = sum(n * int(s) for n, s in zip(after, problem.state_mib, strict=True))
    repair = max(0, held - int(problem.memory_mib[gpu])) + (sum(after) if latency_us >= NEVER_US else 0)
    meet = 0
    if problem.tiers.meet:
        for k, n in enumerate(after):
            late = max(0, latency_us - int(problem.target_us[k]))
            moved_late = max(0, latency_us + int(problem.transfer_us[k]) - int(problem.target_us[k]))
            meet += int(problem.lateness_weight[k]) * ((n - arrived[k]) * late + arrived[k] * moved_late)
    return repair, meet, sum(after) if problem.leaving[gpu] and problem.tiers.leave else 0, latency_us
