"""What an operator may set about online planning.

Decides names, defaults and ranges of the settings; must never know how they are followed.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from solvers.placement.problem import Tiers

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_PositiveCount = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MoveLimits(_Strict):
    """How many transfers may use one thing at once, those in flight included."""

    gpu_in: _PositiveCount = 2
    gpu_out: _PositiveCount = 2
    device_host: _PositiveCount = 2  # per GPU: resumes and offloads together
    device_device: _PositiveCount = 8  # per node: migrations inside it
    node_node: _PositiveCount = 4  # per node: what comes from or goes to other nodes


class ResidencySettings(_Strict):
    """When idle sessions stay on their GPU."""

    horizon_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0  # "soon": a return within this time
    reserve_share: _Share = 0.1  # of a GPU's room that only sessions likely to return soon may use
    return_chance_min: _Share = 0.2  # likely: at least this chance to return soon


class PlannerSettings(_Strict):
    """The online planner's settings; every tier but repair and serve can be switched off."""

    meet: bool = True
    pay: bool = True
    leave: bool = True
    balance: bool = True
    move: bool = True
    smooth: bool = True
    residency: bool = True
    balance_gain_min: _Share = 0.01
    balance_tolerance: _Share = 0.001
    smooth_moves: _Count = 0
    gap: _Share = 0.001  # the search stops at this relative gap
    exact: bool = True  # whether exact solvers are asked at all
    seed: _Count = 0
    urgent_after_s: _Seconds = 60.0  # who waits longer comes before others of equal priority, whatever its profile
    limits: MoveLimits = MoveLimits()
    idle: ResidencySettings = ResidencySettings()

    def tiers(self) -> Tiers:
        return Tiers(
            meet=self.meet,
            leave=self.leave,
            balance=self.balance,
            move=self.move,
            smooth=self.smooth,
            balance_gain_min=self.balance_gain_min,
            balance_tolerance=self.balance_tolerance,
            smooth_moves=self.smooth_moves,
        )
