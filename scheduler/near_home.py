"""The same placement on equal GPUs nearer to the states that it moves.

Decides which of several GPUs that are alike is meant; must never know how the placement was found. A solver sees GPUs
and classes, not nodes: of GPUs with equal content, one in the node that holds a state is reached over a faster link.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from scheduler.cluster import NodeId, Snapshot
from scheduler.fleet import Fleet
from scheduler.formulate import Formulated
from scheduler.interpret import leavers, state_node
from scheduler.sizes import state_mib
from solvers.placement.problem import IntArray
from solvers.placement.solution import Placement


def near_home(formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet) -> Placement:
    """What is placed or arrives alone on a GPU goes to an unused twin of it in the node that its state is in."""
    found = _Twins(formulated, placement, snapshot, fleet)
    for k in range(len(formulated.profiles)):
        for counts, wanted in (
            (found.placed, _resumed(formulated, found.placed, k)),
            (found.arrived, _migrated(formulated, placement, snapshot, k)),
        ):
            found.bring_home(counts, k, wanted)
    return Placement(out=placement.out, arrived=found.arrived, placed=found.placed)


def _resumed(formulated: Formulated, placed: IntArray, k: int) -> Counter[NodeId]:
    """Of those of class k that are placed, how many states each node holds."""
    chosen = formulated.waiting[k][: int(placed[:, k].sum())]
    return Counter(node for session in chosen if (node := state_node(session)) is not None)


def _migrated(formulated: Formulated, placement: Placement, snapshot: Snapshot, k: int) -> Counter[NodeId]:
    """Of those of class k that migrate, how many come from each node."""
    wanted: Counter[NodeId] = Counter()
    for row in np.flatnonzero(placement.out[:, k]):
        gone = leavers(formulated.movable[int(row), k], int(placement.out[row, k]))
        wanted[snapshot.gpus[formulated.gpu_ids[row]].node] += len(gone)
    return wanted


class _Twins:
    """A placement under way, and GPUs that it does not use, by node and content."""

    def __init__(self, formulated: Formulated, placement: Placement, snapshot: Snapshot, fleet: Fleet) -> None:
        self._problem = formulated.problem
        self._node = [snapshot.gpus[gpu_id].node for gpu_id in formulated.gpu_ids]
        self._out = placement.out.sum(axis=1)
        self.placed, self.arrived = placement.placed.copy(), placement.arrived.copy()
        self._spare_mib = formulated.idle_room_mib.copy()
        for row, idle in formulated.idle.items():
            self._spare_mib[row] -= sum(state_mib(fleet, session.profile) for session in idle)
        self._rows: dict[NodeId, list[int]] = defaultdict(list)
        for row, node in enumerate(self._node):
            self._rows[node].append(row)

    def bring_home(self, counts: IntArray, k: int, wanted: Counter[NodeId]) -> None:
        """`counts` is one of `placed` and `arrived`; who already has a place at home keeps it."""
        rows: list[int] = np.flatnonzero(counts[:, k]).tolist()
        have = Counter[NodeId]()
        for row in rows:
            have[self._node[row]] += int(counts[row, k])
        lacking = [node for node, count in wanted.items() for _ in range(count - have[node])]
        for row in rows:
            if not lacking or not self._alone(row) or have[self._node[row]] <= wanted[self._node[row]]:
                continue
            twin = next(self._unused(row, lacking), None)
            if twin is not None:
                counts[twin, k], counts[row, k] = counts[row, k], 0
                have[self._node[row]] -= 1
                lacking.remove(self._node[twin])

    def _alone(self, row: int) -> bool:
        """One session comes, and nobody goes."""
        return not self._out[row] and int(self.placed[row].sum() + self.arrived[row].sum()) == 1

    def _unused(self, row: int, nodes: list[NodeId]) -> Iterator[int]:
        """Twins in one of the nodes, from which no more idle sessions have to go."""
        problem, spare = self._problem, self._spare_mib
        need = int((self.placed[row] + self.arrived[row]) @ problem.state_mib)
        for node in dict.fromkeys(nodes):
            for twin in self._rows[node]:
                if (
                    not (self._out[twin] or self.placed[twin].any() or self.arrived[twin].any())
                    and problem.gpu_type[twin] == problem.gpu_type[row]
                    and problem.receives[twin]
                    and problem.memory_mib[twin] >= problem.memory_mib[row]
                    and problem.in_max[twin] >= self.arrived[row].sum()
                    and spare[twin] - need >= min(0, spare[row] - need)
                    and (problem.running[twin] == problem.running[row]).all()
                ):
                    yield twin
