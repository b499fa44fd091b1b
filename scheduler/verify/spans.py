"""GPUs: when they are on, where, and whether the fleet has that many.

Decides whether the paid spans are possible; must never know which session runs on them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scheduler.verify.case import Case, names_of_nodes
from scheduler.verify.sweep import Ints, examples, most_at_once, seconds


def wrong_spans(case: Case) -> Iterator[str]:
    """Everything that is wrong with gpus.parquet."""
    yield from _spans_are_whole_epochs(case)
    yield from _a_gpu_is_on_once(case)
    yield from _nodes_exist(case)
    yield from _nodes_and_types_are_not_exceeded(case)
    yield from _pools_keep_their_minimum(case)
    yield from _latency_plans_keep_gpus_on(case)


def gpu_cost(case: Case) -> tuple[float, float]:
    """Dollars and hours of all spans."""
    price = np.array([kind.price_per_hour for kind in case.fleet.gpu_types.values()])
    hours = (case.gpus.off_us - case.gpus.on_us) / 3.6e9
    return float(hours @ price[case.gpus.span_type]), float(hours.sum())


def _span(case: Case, i: int) -> str:
    gpus = case.gpus
    return f"{case.gpu_name(gpus.gpu[i])}: on_s={seconds(gpus.on_us[i])} off_s={seconds(gpus.off_us[i])}"


def _spans_are_whole_epochs(case: Case) -> Iterator[str]:
    on, off = case.gpus.on_us, case.gpus.off_us
    yield from examples(on >= off, lambda i: f"{_span(case, i)} must be a span with on_s < off_s")
    crooked = (on % case.epoch_us != 0) | (off % case.epoch_us != 0)
    yield from examples(crooked, lambda i: f"{_span(case, i)} must be multiples of epoch_s={case.fleet.epoch_s:g}")


def _a_gpu_is_on_once(case: Case) -> Iterator[str]:
    gpus = case.gpus
    order = np.lexsort((gpus.on_us, gpus.gpu))
    before, after = order[:-1], order[1:]
    same = gpus.gpu[before] == gpus.gpu[after]
    twice = after[same & (gpus.on_us[after] < gpus.off_us[before])]
    yield from examples(twice, lambda i: f"{_span(case, i)} overlaps another span of this GPU")
    other_type = gpus.span_type != gpus.type_index[gpus.gpu]
    other_node = np.array([gpus.span_node[i] != gpus.node[g] for i, g in enumerate(gpus.gpu)], dtype=np.bool_)
    changed = other_type | other_node
    yield from examples(changed, lambda i: f"{_span(case, i)} is of another type or node than its first span")


def _nodes_exist(case: Case) -> Iterator[str]:
    pool_of = dict(names_of_nodes(case.fleet))
    names = list(case.fleet.gpu_types)
    unknown = np.array([node not in pool_of for node in case.gpus.span_node], dtype=np.bool_)
    yield from examples(
        unknown,
        lambda i: f'{_span(case, i)} node="{case.gpus.span_node[i]}" must be "<pool index>/<node index>" of the fleet',
    )
    for i in np.flatnonzero(~unknown):
        pool = case.fleet.pools[pool_of[case.gpus.span_node[i]]]
        if names[case.gpus.span_type[i]] != pool.gpu_type:
            yield f"{_span(case, int(i))} is a {names[case.gpus.span_type[i]]} on a node of {pool.gpu_type}"


def _nodes_and_types_are_not_exceeded(case: Case) -> Iterator[str]:
    fleet, gpus = case.fleet, case.gpus
    pool_of = dict(names_of_nodes(fleet))
    nodes = {name: index for index, name in enumerate(pool_of)}
    rooms = [fleet.pools[pool].gpus_per_node for pool in pool_of.values()]
    known = np.array([node in nodes for node in gpus.span_node], dtype=np.bool_) & (gpus.on_us < gpus.off_us)
    on_node = np.array([nodes.get(node, 0) for node in gpus.span_node], dtype=np.int64)
    yield from _exceeded(case, on_node, known, [f"node {name}" for name in nodes], rooms)
    types = list(fleet.gpu_types)
    sizes = [sum(pool.nodes * pool.gpus_per_node for pool in fleet.pools if pool.gpu_type == t) for t in types]
    real = gpus.on_us < gpus.off_us
    yield from _exceeded(case, gpus.span_type, real, [f"type {name}" for name in types], sizes)


def _exceeded(case: Case, group: Ints, use: np.ndarray, names: list[str], limits: list[int]) -> Iterator[str]:
    most, when = most_at_once(group[use], case.gpus.on_us[use], case.gpus.off_us[use])
    over = most > np.array(limits[: most.size], dtype=np.int64)
    yield from examples(
        over, lambda i: f"{names[i]}: {most[i]} GPUs on at {seconds(when[i])}, and there are {limits[i]}"
    )


def _pools_keep_their_minimum(case: Case) -> Iterator[str]:
    pool_of = dict(names_of_nodes(case.fleet))
    pools = np.array([pool_of.get(node, -1) for node in case.gpus.span_node], dtype=np.int64)
    for index, pool in enumerate(case.fleet.pools):
        if not pool.gpus_min:
            continue
        mine = (pools == index) & (case.gpus.usable_us < case.gpus.off_us)
        usable, off = np.sort(case.gpus.usable_us[mine]), np.sort(case.gpus.off_us[mine])
        times = np.unique(np.concatenate([usable, off, np.zeros(1, dtype=np.int64)]))
        times = times[(times >= 0) & (times < case.horizon_us)]
        count = np.searchsorted(usable, times, side="right") - np.searchsorted(off, times, side="right")
        short = np.flatnonzero(count < pool.gpus_min)
        if short.size:
            at, have = seconds(times[short[0]]), count[short[0]]
            yield f"pool {index}: {have} GPUs usable at {at}, gpus_min={pool.gpus_min}"


def _latency_plans_keep_gpus_on(case: Case) -> Iterator[str]:
    if case.plan.minimize != "latency":
        return
    short = (case.gpus.usable_us > 0) | (case.gpus.off_us < case.horizon_us)
    yield from examples(short, lambda i: f"{_span(case, i)} must be usable for the whole horizon (minimize=latency)")
