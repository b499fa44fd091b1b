"""The table of GPUs: hours, money, sessions and latency of each, the dearest first.

Decides what is said of one GPU; must never know markup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scheduler.report.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRow:
    """One physical GPU over the whole trace."""

    gpu_id: str
    gpu_type: str
    node: str
    switched_on: int
    paid_hours: float
    dollars: float
    placements: int
    serving_share: float  # of the paid time, with at least one active session
    sessions_mean: float  # while serving
    latency_ms_max: float
    moves_in: int
    moves_out: int


def gpu_rows(schedule: Schedule) -> list[GpuRow]:
    """All GPUs that were on, by dollars, then in display order."""
    gpus, on, contents, moves = schedule.gpus, schedule.on, schedule.contents, schedule.moves
    count = len(gpus.gpu_id)
    held_us = contents.end_us - contents.start_us
    hours = np.bincount(on.gpu_index, on.off_us - on.on_us, count) / 3600e6
    dollars = hours * schedule.prices_per_hour()[gpus.type_index]
    serving_hours = np.bincount(contents.gpu_index, held_us, count) / 3600e6
    session_hours = np.bincount(contents.gpu_index, held_us * contents.sessions, count) / 3600e6
    worst_ms = np.zeros(count)
    np.maximum.at(worst_ms, contents.gpu_index, schedule.latency_ms)
    switched_on = np.bincount(on.gpu_index, minlength=count)
    placements = np.bincount(schedule.placed.gpu_index, minlength=count)
    moves_in = np.bincount(moves.target_index, minlength=count)
    moves_out = np.bincount(moves.source_index, minlength=count)
    types = list(schedule.fleet.gpu_types)
    return [
        GpuRow(
            gpu_id=gpus.gpu_id[index],
            gpu_type=types[gpus.type_index[index]],
            node=gpus.node[index],
            switched_on=int(switched_on[index]),
            paid_hours=float(hours[index]),
            dollars=float(dollars[index]),
            placements=int(placements[index]),
            serving_share=float(serving_hours[index] / hours[index]) if hours[index] else 0.0,
            sessions_mean=float(session_hours[index] / serving_hours[index]) if serving_hours[index] else 0.0,
            latency_ms_max=float(worst_ms[index]),
            moves_in=int(moves_in[index]),
            moves_out=int(moves_out[index]),
        )
        for index in np.argsort(-dollars.round(9), kind="stable").tolist()
    ]
