"""How far the count of each class on each GPU can go within one epoch.

Decides ranges that every placement keeps to, so that exact formulations are no larger than needed; must never know
which formulation uses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from solvers.placement.problem import NEVER_US, BoolArray, IntArray, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Ranges that some best placement keeps to, if none of its GPUs that run ends above `cap_us`.

    No class both leaves and enters a GPU in it: the session that enters could go where the other one went instead.
    """

    leave_max: IntArray  # [gpus, classes]
    arrive_max: IntArray  # [gpus, classes]
    place_max: IntArray  # [gpus, classes]
    fewest: IntArray  # [gpus, classes]: sessions afterwards
    most: IntArray  # [gpus, classes]: sessions afterwards
    too_full: BoolArray  # [gpus]: the states that are there do not fit
    may_not_run: BoolArray  # [gpus]: the batch that is there may not run
    cap_us: int

    @staticmethod
    def of(problem: Problem, cap_us: int = NEVER_US - 1) -> Reach:
        """`cap_us`: a latency that some best placement does not exceed on any GPU that runs."""
        running, gpus = problem.running, problem.gpus
        held_mib = running @ problem.state_mib
        too_full = held_mib > problem.memory_mib
        leave = np.minimum(running, np.minimum(problem.out_max, problem.moves_max)[:, None])
        leave = np.minimum(leave, (problem.moved_mib_max // problem.state_mib)[None, :])
        takes = (problem.receives & ~too_full)[:, None]
        elsewhere = running.sum(axis=0)[None, :] - running
        arrive = np.minimum(elsewhere, np.minimum(problem.in_max, problem.moves_max)[:, None]) * takes
        arrive = np.minimum(arrive, (problem.moved_mib_max // problem.state_mib)[None, :])
        place = np.broadcast_to(problem.waiting, running.shape) * takes
        spare = np.maximum(problem.memory_mib - held_mib, 0)[:, None] // problem.state_mib[None, :]
        takers = (takes.sum() - takes) > 0  # somebody else could take what leaves
        fewest = running - np.where(takers, leave, 0)
        enter = np.minimum(np.minimum(arrive + place, spare), _room(problem, fewest, running, arrive + place, cap_us))
        return Reach(
            leave_max=running - fewest,
            arrive_max=np.minimum(arrive, enter),
            place_max=np.minimum(place, enter),
            fewest=fewest,
            most=running + enter,
            too_full=too_full,
            may_not_run=problem.latency_us(running) >= NEVER_US if gpus else np.zeros(0, dtype=np.bool_),
            cap_us=cap_us,
        )

    def only(self, gives: BoolArray, takes: BoolArray, running: IntArray) -> Reach:
        """The same where only some GPUs give and only some take migrants or placed sessions."""
        leave = self.leave_max * gives[:, None]
        arrive, place = self.arrive_max * takes[:, None], self.place_max * takes[:, None]
        most = np.where(takes[:, None], self.most, running)
        return replace(self, leave_max=leave, arrive_max=arrive, place_max=place, fewest=running - leave, most=most)


def _room(problem: Problem, fewest: IntArray, running: IntArray, enter: IntArray, cap_us: int) -> IntArray:
    """How many more of each class a GPU could run within `cap_us` if as many as possible left it [gpus, classes]."""
    tables, kind = problem.tables, problem.gpu_type
    of_class = np.arange(problem.classes)[None, :]
    alone_last, common_last = tables.alone_us.shape[2] - 1, tables.common_us.shape[1] - 1
    alone = tables.alone_us[kind[:, None], of_class, np.minimum(fewest, alone_last)]
    others_alone = alone.sum(axis=1)[:, None] - alone
    others = fewest.sum(axis=1)[:, None] - fewest
    base_of_others = np.where(fewest > 0, tables.base_us[kind], 0).max(axis=1, initial=0)[:, None]
    base = np.maximum(tables.base_us[kind], base_of_others)
    room = np.zeros_like(running)
    open_still = enter > 0
    for more in range(1, int(enter.max(initial=0)) + 1):
        count = running + more
        latency = (
            others_alone
            + base
            + tables.alone_us[kind[:, None], of_class, np.minimum(count, alone_last)]
            + tables.common_us[kind[:, None], np.minimum(others + count, common_last)]
        )
        # Whoever enters meets all of its class: that somebody of a class leaves where another enters gains nothing.
        open_still = open_still & (enter >= more) & (latency <= cap_us)
        if not open_still.any():
            break
        room[open_still] = more
    return room
