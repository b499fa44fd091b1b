"""On which GPU a period does least harm, and which further GPU is opened for it.

Decides by scores over the GPUs as they are now; must never know of migrations or of changing what was decided before.
"""

from __future__ import annotations

from solvers.numba_kernel import inner
from solvers.sweep_state import (
    FAR,
    I_ON,
    N_OPENED,
    W_ALIGN,
    W_MISFIT,
    W_MISFIT_LENGTH,
    W_ROOM,
    W_SLACK,
    W_WASTE,
    Fleet,
    Limits,
    RealArray,
    State,
    Tables,
    Trail,
    Work,
    switch,
)


@inner
def packing(weights: RealArray, waste: float, room: float) -> float:
    """What one more session does to how well a GPU is filled: the waste that it adds, the room that it leaves."""
    return float(weights[W_WASTE] * waste + weights[W_ROOM] * room)


@inner
def best_gpu(state: State, work: Work, tables: Tables, weights: RealArray, period: int, at_us: int, late: bool) -> int:
    """The GPU on which the period does least harm, or -1; on time unless `late` is allowed."""
    k = work.class_index[period]
    end_us = work.end_us[period]
    best = FAR
    chosen = -1
    for position in range(state.cursor[I_ON]):
        gpu = state.on_list[position]
        before = state.content[gpu]
        after = tables.add[before, k]
        if after < 0 or state.ready_us[gpu] > at_us:
            continue
        score = packing(weights, tables.waste[after] - tables.waste[before], tables.room[after])
        if tables.late[after] > 0:
            if not late:
                continue
            score += 1e6 * (tables.late[after] - tables.late[before])
        spare_us = state.off_us[gpu] - end_us
        if spare_us < 0:
            score += weights[W_MISFIT] + weights[W_MISFIT_LENGTH] * min(1.0, -spare_us / 600e6)
        else:
            score += weights[W_SLACK] * min(1.0, spare_us / 3600e6)
        if state.members[gpu] > 0:
            score += weights[W_ALIGN] * min(1.0, abs(state.last_end_us[gpu] - end_us) / 300e6)
        if score < best:
            best = score
            chosen = gpu
    return chosen


@inner
def open_gpu(
    state: State, tables: Tables, fleet: Fleet, trail: Trail, limits: Limits, epoch: int, k: int, at_us: int
) -> int:
    """Make the cheapest further GPU usable from the start of this epoch on; -1 if all are.

    A GPU that becomes usable later in this epoch anyway is switched on an epoch earlier.
    """
    best = FAR
    chosen = -1
    epochs = fleet.planned.shape[1]
    boundary_us = epoch * limits.epoch_us
    for gpu in range(fleet.planned.shape[0]):
        if fleet.usable_us[gpu] > at_us or (state.active[gpu] and state.ready_us[gpu] <= at_us):
            continue
        after = tables.add[fleet.empty[gpu], k]
        if after < 0 or tables.late[after] > 0:
            continue
        lead = fleet.lead[gpu]
        if state.active[gpu] or (epoch > 0 and (fleet.planned[gpu, epoch - 1] or trail.opened[gpu, epoch - 1])):
            lead = 0
        if epoch + 1 < epochs and fleet.planned[gpu, epoch + 1]:
            lead = 0
        cost = fleet.open_cost[gpu] * (1 + lead)
        if cost < best - 1e-12:
            best = cost
            chosen = gpu
    if chosen >= 0:
        trail.counts[epoch, N_OPENED] += 1
        if not state.active[chosen]:
            switch(state, tables, chosen, True, boundary_us)
            state.off_us[chosen] = boundary_us + limits.epoch_us
            trail.opened[chosen, epoch] = True
        state.ready_us[chosen] = max(boundary_us, fleet.usable_us[chosen])
    return chosen
