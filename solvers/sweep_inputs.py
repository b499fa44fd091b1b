"""How the compiled sweep is fed: contents with their worth, periods, GPUs and limits as arrays.

Decides what a content is worth to the sweep's score; must never know weights, epochs that were swept, or what came out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solvers.contents import ContentTable
from solvers.offline_problem import NEVER_ON, OfflineProblem
from solvers.sweep_state import Fleet, Limits, Tables, Work

RELUCTANCE = 0.5  # part of a session's value that is waste on a GPU type that a cheapest packing does not use


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What the sweep's score is made of, per type's contents and per class."""

    waste: tuple[npt.NDArray[np.float64], ...]  # [types][contents]
    room: tuple[npt.NDArray[np.float64], ...]  # [types][contents]
    class_value: npt.NDArray[np.float64]  # [classes]


def worth_of(
    tables: Sequence[ContentTable],
    values: Sequence[float],
    limits: Sequence[float],
    shares: npt.NDArray[np.float64] | None = None,
) -> Worth:
    """Worth by class values (an inequality's weights): waste is the value that no completion of a content can reach.

    `shares` [types, classes] says where a cheapest packing has each class; elsewhere its sessions count as waste, too.
    """
    value = np.array(values)
    top = max(limits)
    waste, room = [], []
    for t, (table, limit) in enumerate(zip(tables, limits, strict=True)):
        own = table.counts @ value
        completion = own.copy()
        for row in range(table.size - 1, -1, -1):
            after = table.add[row][table.add[row] >= 0]
            if len(after):
                completion[row] = max(completion[row], completion[after].max())
        reluctance = np.zeros(len(value)) if shares is None else RELUCTANCE * (1.0 - shares[t]) * value
        waste.append((limit - completion + table.counts @ reluctance) / top)
        room.append(1.0 - own / limit if limit > 0 else np.ones(table.size))
    return Worth(waste=tuple(waste), room=tuple(room), class_value=value / top)


def plan_matrix(problem: OfflineProblem, counts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.bool_]:
    """GPUs meant to be on [gpus, epochs] for counts per type and epoch: the first of each type, and those always on."""
    planned = np.zeros((problem.gpus, problem.epochs), np.bool_)
    for type_index, count in enumerate(counts):
        mine = np.flatnonzero(problem.gpu_type == type_index)
        planned[mine] = np.arange(len(mine))[:, None] < count[None, :]
    planned[problem.gpu_always_on] = True
    return planned


def work_of(problem: OfflineProblem) -> Work:
    """The problem's periods."""
    return Work(
        start_us=problem.start_us,
        end_us=problem.end_us,
        class_index=problem.class_index.astype(np.int32),
        priority=problem.priority.astype(np.int32),
        home=problem.home.astype(np.int32),
        by_end=np.argsort(problem.end_us, kind="stable").astype(np.int32),
    )


def limits_of(problem: OfflineProblem) -> Limits:
    """The problem's migration budget, and its epoch."""
    budget = problem.budget
    return Limits(
        epoch_us=problem.epoch_us,
        moves=budget.moves,
        out_per_gpu=budget.out_per_gpu,
        in_per_gpu=budget.in_per_gpu,
        gib=min(budget.gib, 1e18),
    )


def stacked_tables(tables: Sequence[ContentTable], worth: Worth, problem: OfflineProblem) -> tuple[Tables, list[int]]:
    """All types' contents one after another; returns also the row of each type's empty content."""
    first = np.cumsum([0, *(table.size for table in tables)])
    add = [np.where(table.add >= 0, table.add + base, -1) for table, base in zip(tables, first, strict=False)]
    remove = [np.where(table.remove >= 0, table.remove + base, -1) for table, base in zip(tables, first, strict=False)]
    stacked = Tables(
        add=np.concatenate(add).astype(np.int32),
        remove=np.concatenate(remove).astype(np.int32),
        late=np.concatenate([table.late for table in tables]).astype(np.int32),
        memory_gib=np.concatenate([table.memory_gib for table in tables]),
        waste=np.concatenate(worth.waste),
        room=np.concatenate(worth.room),
        class_value=np.asarray(worth.class_value, dtype=np.float64),
        to_eject=np.concatenate([_to_eject(table, worth.class_value) for table in tables]),
        state_gib=np.array(problem.state_gib, dtype=np.float64),
    )
    return stacked, [int(base) for base in first[:-1]]


def _to_eject(table: ContentTable, class_value: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    """[contents, classes]: fewest sessions of lighter classes to remove so that one more fits on time; 99: never."""
    never = 99
    fewest = np.full(table.add.shape, never, dtype=np.int32)
    for k in range(table.add.shape[1]):
        fits = (table.add[:, k] >= 0) & (table.late[np.maximum(table.add[:, k], 0)] == 0)
        fewest[fits, k] = 0
        for row in range(table.size):  # contents are sorted by size, so what removal leads to comes first
            for lighter in np.flatnonzero(class_value < class_value[k]):
                before = table.remove[row, lighter]
                if before >= 0:
                    fewest[row, k] = min(fewest[row, k], fewest[before, k] + 1)
    return fewest


def fleet_of(
    problem: OfflineProblem, tables: Sequence[ContentTable], first: list[int], planned: npt.NDArray[np.bool_]
) -> Fleet:
    """The problem's GPUs; `first` has the row of each type's empty content."""
    types = problem.gpu_type
    startup_us = np.array(problem.startup_us, dtype=np.int64)
    memory = np.array([t.memory_gib for t in problem.types])
    largest = np.array([table.memory_gib.max(initial=0.0) for table in tables])
    on_before = problem.gpu_on_us != NEVER_ON
    usable_us = np.where(on_before, problem.gpu_on_us, problem.soonest_on_us) + startup_us[types]
    return Fleet(
        planned=planned,
        empty=np.array(first, dtype=np.int32)[types],
        usable_us=np.where(usable_us <= 0, -(2**62), usable_us),
        offset_us=np.where(problem.gpu_always_on | on_before, 0, (startup_us % problem.epoch_us)[types]),
        memory_gib=memory[types],
        open_cost=np.array(problem.price_per_hour)[types],
        lead=(startup_us // problem.epoch_us).astype(np.int32)[types],
        roomy=(2 * largest <= memory)[types],
    )
