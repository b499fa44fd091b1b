"""The state a rolling window starts from: GPUs already on, sessions already placed.

Decides what a valid state file is (`epochal.state/1`, JSON); must never know how it came about.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class GpuOn(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    gpu_id: str
    gpu_type: str
    node: str
    on_s: Annotated[float, Field(le=0, allow_inf_nan=False)]  # a multiple of epoch_s, on the new trace's clock


class SessionPlaced(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    session_id: str
    gpu_id: str


class FleetState(BaseModel):
    """What holds at time 0 of the trace: a session placed here is active at 0 and starts where it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    format: Literal["epochal.state/1"]
    gpus: list[GpuOn]
    sessions: list[SessionPlaced] = []
