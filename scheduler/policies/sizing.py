"""How many GPUs the reference's budget wants, of each type.

Decides counts from loads by profile; must never know when they are followed. Source: arXiv 2606.19271 and public
reimplementations of it, M = ceil(active / (capacity * 0.9)), at least ceil(active / capacity). Of several profiles
the loads on their home type are summed up before rounding, as one shared pool; what a type's pools cannot hold goes on
to the next in price.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scheduler.demand import demand_arrays
from scheduler.policies.fleet_facts import FULL, FleetFacts
from traces.trace import Trace

HEADROOM = 0.9  # share of capacity that is to be in use
HOLD_S = 5.0  # a lower target must have held for so long
_NEARLY = 1e-4


def loads_by_type(facts: FleetFacts, wanted: Sequence[int], headroom: float = HEADROOM) -> dict[str, int]:
    """The load that active sessions by profile bring to each type."""
    load = dict.fromkeys(facts.gpu_types, 0)
    for k, count in enumerate(wanted):
        left = count
        for gpu_type in facts.by_price[k]:
            if not left:
                break
            share = facts.share[gpu_type][k]
            room = int(facts.gpus_max[gpu_type] * FULL * headroom) - load[gpu_type]
            here = left if gpu_type == facts.by_price[k][-1] else min(left, max(0, room // share))
            load[gpu_type] += here * share
            left -= here
    return load


def gpus_for(facts: FleetFacts, wanted: Sequence[int], headroom: float = HEADROOM) -> dict[str, int]:
    """GPUs by type for so many active sessions by profile; never more than the pools have."""
    loads = loads_by_type(facts, wanted, headroom)
    return {t: min(gpus_for_load(load, headroom), facts.gpus_max[t]) for t, load in loads.items()}


def gpus_at_peak(facts: FleetFacts, trace: Trace, *, until_s: float | None = None) -> dict[str, int]:
    """What the budget wants at the instant of most demand, the whole trace long or until then."""
    profile, start_us, end_us = demand_arrays(trace, facts.fleet)
    if until_s is not None:
        early = start_us < max(1, round(until_s * 1e6))
        profile, start_us, end_us = profile[early], start_us[early], end_us[early]
    if not profile.size:
        return gpus_for(facts, [0] * len(facts.profiles))
    home = [facts.share[t][k] if t is not None else 0 for k, t in enumerate(facts.home)]
    price = [facts.fleet.gpu_types[t].price_per_hour if t is not None else 0.0 for t in facts.home]
    dollars = np.array([share * each for share, each in zip(home, price, strict=True)])
    at_us = np.concatenate([start_us, end_us])
    change = np.concatenate([np.ones(start_us.size, np.int64), -np.ones(end_us.size, np.int64)])
    order = np.lexsort((change, at_us))
    which = np.concatenate([profile, profile])[order]
    peak = int(np.cumsum(change[order] * dollars[which]).argmax())
    wanted = np.bincount(which[: peak + 1], weights=change[order][: peak + 1], minlength=len(facts.profiles))
    return gpus_for(facts, [round(count) for count in wanted])


def gpus_for_load(load: int, headroom: float) -> int:
    """ceil(load / headroom), at least ceil(load); that shares are rounded does not cost a GPU."""
    return max(math.ceil(load / FULL - _NEARLY), math.ceil(load / (FULL * headroom) - _NEARLY))


def gpus_at_start(facts: FleetFacts, trace: Trace) -> dict[str, int]:
    """For autoscalers: what the budget wants for the most demand until a GPU that starts at 0 is ready."""
    startup_s = max(facts.fleet.gpu_types[t].startup_s for t in facts.gpu_types)
    return gpus_at_peak(facts, trace, until_s=startup_s)
