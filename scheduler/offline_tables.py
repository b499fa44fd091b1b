"""Solved numbers as the tables of a plan.

Decides how indexes become names again; must never know how a solution was found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from scheduler.fleet import Fleet
from scheduler.formulate_offline import MICROSECONDS, Formulated
from scheduler.offline_plan import GPUS_SCHEMA, NEEDED_SCHEMA, PLACEMENTS_SCHEMA
from solvers.offline_bounds import NeededRows
from solvers.offline_problem import OfflineProblem, OfflineSolution


def _seconds(values_us: npt.NDArray[np.int64]) -> pl.Series:
    return pl.Series(values_us / float(MICROSECONDS))


def gpus_table(formulated: Formulated, solution: OfflineSolution) -> pl.DataFrame:
    """Spans by GPU."""
    problem = formulated.problem
    gpu = solution.span_gpu
    types = np.array(formulated.gpu_types)[problem.gpu_type[gpu]]
    return pl.DataFrame(
        {
            "gpu_id": np.array(formulated.gpu_ids)[gpu].tolist(),
            "gpu_type": types.tolist(),
            "node": np.array(formulated.gpu_nodes)[gpu].tolist(),
            "on_s": _seconds(solution.span_on_us),
            "off_s": _seconds(solution.span_off_us),
        },
        schema=GPUS_SCHEMA,
    )


def placements_table(formulated: Formulated, solution: OfflineSolution) -> pl.DataFrame:
    """Pieces by session."""
    ids = pl.Series(list(formulated.gpu_ids), dtype=pl.String)
    return pl.DataFrame(
        {
            "session_id": formulated.session_ids.gather(solution.piece_period),
            "gpu_id": ids.gather(solution.piece_gpu),
            "start_s": _seconds(solution.piece_start_us),
            "end_s": _seconds(solution.piece_end_us),
        },
        schema=PLACEMENTS_SCHEMA,
    )


def needed_table(formulated: Formulated, fleet: Fleet, rows: NeededRows) -> pl.DataFrame:
    """Rows in the fleet's order of profiles and GPU types; what is not in use weighs nothing."""
    weights = np.zeros((len(rows.epoch), len(fleet.profiles)))
    names = list(fleet.profiles)
    for k, profile in enumerate(formulated.profiles):
        weights[:, names.index(profile)] = rows.weights[:, k]
    limits = np.zeros((len(rows.epoch), len(fleet.gpu_types)))
    types = list(fleet.gpu_types)
    for t, gpu_type in enumerate(formulated.gpu_types):
        limits[:, types.index(gpu_type)] = rows.limits[:, t]
    return pl.DataFrame(
        {
            "epoch": rows.epoch,
            "at_s": _seconds(rows.at_us),
            "weights": weights.tolist(),
            "type_weights": limits.tolist(),
        },
        schema=NEEDED_SCHEMA,
    )


def no_rows(problem: OfflineProblem) -> NeededRows:
    """Where no cost is bounded."""
    return NeededRows(
        epoch=np.zeros(0, np.int64),
        at_us=np.zeros(0, np.int64),
        weights=np.zeros((0, problem.classes)),
        limits=np.zeros((0, len(problem.types))),
        side=np.zeros(0),
    )
