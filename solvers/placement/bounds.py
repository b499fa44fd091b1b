"""The certificate: what no placement can beat, found in milliseconds without solving anything.

Decides lower bounds of the tiers `meet`, `leave` and `balance`; must never know a placement. The bounds of `balance`
hold among placements that serve everybody who waits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from solvers.placement.bounds_kernel import lateness_cuts, least_entered, least_left
from solvers.placement.kernel import Given
from solvers.placement.problem import NEVER_US, NO_TARGET_US, IntArray, Problem
from solvers.placement.solution import Bounds

REMOVALS = 2  # sessions whose removal from a GPU is tried exhaustively


def certificate(problem: Problem, given: Given) -> Bounds:
    """Bounds of `meet`, `leave` and `balance`, each the best of several; `proofs` names which."""
    # So many removals are allowed on each GPU; REMOVALS + 1 stands for more than are tried.
    removals = np.minimum(problem.out_max, REMOVALS)
    removals[problem.out_max > REMOVALS] = REMOVALS + 1
    left = least_left(given, removals)
    candidates = {
        "least after two removals": int(left[:, -1].max(initial=0)),
        "migration budget": _budget_bound(left, problem.moves_max),
        "room for one that waits": int(least_entered(given, problem.waiting, removals, left)),
        "volume": volume_bound(problem),
    }
    proof, balance = max(candidates.items(), key=lambda item: item[1])
    leave = _leave_bound(problem)
    return Bounds(
        serve=(0,) * problem.ranks,
        meet=_meet_bound(problem, given, removals),
        leave=leave,
        balance=balance,
        proofs={
            "repair": "never negative",
            "serve": "never negative",
            "meet": "most that removals can save",
            "leave": "migrations out of each GPU",
            "balance": proof,
            "move": "never negative",
        },
    )


def _budget_bound(left: IntArray, moves_max: int) -> int:
    """A level needs one migration per GPU above it, a second one where one is not enough: too many for the budget.

    The (budget + 1)-th largest of the latencies after 0, 1 and 2 removals is therefore a bound.
    """
    steps = np.sort(left[:, :REMOVALS].ravel())[::-1]
    return int(steps[moves_max]) if moves_max < len(steps) else 0


def _leave_bound(problem: Problem) -> int:
    """Sessions on GPUs that are to be emptied, less what may migrate."""
    held = problem.running[problem.leaving].sum(axis=1)
    able = np.minimum(held, problem.out_max[problem.leaving]).sum()
    return max(0, int(held.sum() - min(able, problem.moves_max)))


def _meet_bound(problem: Problem, given: Given, removals: IntArray) -> int:
    """Lateness as it is, less the most that the allowed removals can save; whoever enters saves nothing."""
    if not problem.tiers.meet or bool((problem.target_us >= NO_TARGET_US).all()):
        return 0
    cuts = lateness_cuts(given, removals)  # [gpus, removals + 1]: least lateness after that many removals
    first = cuts[:, 0] - cuts[:, 1]
    second = cuts[:, 1] - cuts[:, 2]
    concave = second <= first
    # Where the second removal saves more than the first, both count with their mean: an upper bound on any use of them.
    mean = (first + second + 1) // 2
    saved = np.concatenate([np.where(concave, first, mean), np.where(concave, second, mean)])
    saved = np.sort(saved)[::-1][: max(0, min(problem.moves_max, len(saved)))]
    beyond = int(cuts[problem.out_max > REMOVALS, 2].sum())  # more removals than were tried may save all of it
    return max(0, int(cuts[:, 0].sum() - saved.sum()) - beyond)


def volume_bound(problem: Problem) -> int:
    """Everybody's least share of a round, spread evenly over all GPUs.

    On type t a session of class k takes at least b[k, t] = min_n (its class's own part for n) / n of its GPU's f, so
    f_g >= sum_k b[k, t] x_k for any x, and with speeds s_t, sum_g f_g / s_t >= sum_k N_k min_t b[k, t] / s_t.
    """
    tables, total = problem.tables, problem.running.sum(axis=0) + problem.waiting
    open_gpus = problem.receives | (problem.running.sum(axis=1) > 0)
    if not open_gpus.any() or not total.any():
        return 0
    most = np.where(tables.common_us[:, -1] < NEVER_US, NEVER_US, (tables.common_us < NEVER_US).sum(axis=1) - 1)
    share = _least_share(tables.alone_us, most[:, None]) + _least_share(tables.common_us, most)[:, None]
    gpu_types = problem.gpu_type[open_gpus]
    present = np.unique(gpu_types)
    reference = np.where(np.isfinite(share), share, 0.0)[:, total > 0].mean(axis=1)
    speed = np.where(reference > 0, reference, 1.0)
    load = (share[present] / speed[present, None]).min(axis=0)
    if not np.isfinite(load[total > 0]).all():
        return 0
    return int(np.ceil(float(total[total > 0] @ load[total > 0]) / float((1.0 / speed[gpu_types]).sum()) - 1e-6))


def _least_share(table_us: IntArray, most: IntArray) -> npt.NDArray[np.float64]:
    """The least part of a table [..., sessions + 1] that falls to one session, of at most `most` [...] in a batch."""
    sessions = np.arange(1, table_us.shape[-1])
    possible = (table_us[..., 1:] < NEVER_US) & (sessions <= most[..., None])
    least = np.where(possible, table_us[..., 1:] / sessions, np.inf).min(axis=-1, initial=np.inf)
    # Beyond the last column a batch costs no more than that; only where it may run does this matter.
    endless = (table_us[..., -1] < NEVER_US) & (most >= table_us.shape[-1])
    return np.where(endless, 0.0, least)
