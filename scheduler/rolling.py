"""Rolling windows: the state in which one plan leaves the fleet for the next.

Decides which GPUs are on and who is where at an instant of a plan; must never know how either window is planned.
"""

from __future__ import annotations

import polars as pl

from scheduler.offline_plan import OfflinePlan
from scheduler.state import FleetState, GpuOn, SessionPlaced


def state_at(plan: OfflinePlan, at_s: float) -> FleetState:
    """What holds at `at_s` of a plan, as the state in which the next window begins.

    `at_s` is a multiple of the fleet's epoch_s and becomes time 0 of the next trace. A GPU that the plan switches off
    just then is still on: the next plan decides. Sessions are those that were running until then; one that is not
    active at time 0 of the next trace is ignored there. A plan made from this state counts each GPU from its `on_s`,
    so what was paid before time 0 is in the dollars of both windows.
    """
    at_us, epoch_us = round(at_s * 1e6), round(plan.fleet.epoch_s * 1e6)
    assert at_us % epoch_us == 0, f"at_s={at_s:g} is a multiple of epoch_s={plan.fleet.epoch_s:g}"
    on = plan.gpus.filter(_us("on_s") < at_us, _us("off_s") >= at_us).with_columns(on_s=(_us("on_s") - at_us) / 1e6)
    running = plan.placements.filter(_us("start_s") < at_us, _us("end_s") >= at_us)
    return FleetState(
        format="epochal.state/1",
        gpus=[GpuOn(**row) for row in on.select("gpu_id", "gpu_type", "node", "on_s").iter_rows(named=True)],
        sessions=[SessionPlaced(**row) for row in running.select("session_id", "gpu_id").iter_rows(named=True)],
    )


def _us(column: str) -> pl.Expr:
    return (pl.col(column) * 1e6).round().cast(pl.Int64)
