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
    return_on_time: bool = True  # whoever could not return without making somebody late goes to host memory
    return_chance_min: _Share = 0.2  # likely: at least this chance to return soon


class ScalingSettings(_Strict):
    """When GPUs start and stop."""

    service_level: Annotated[float, Field(ge=0.5, lt=1, allow_inf_nan=False)] = 0.95  # of capacity in each epoch
    spare_share: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0  # of demand, that is held beyond it
    peak_hold_s: _Seconds = 0.0  # the most that was wanted at once in so long a past is held, too
    horizon_epochs: Annotated[int, Field(ge=1, le=200)] = 10  # looked ahead; more where a start-up takes longer
    scale_in_hold_s: _Seconds = 60.0  # fewer must have done for so long
    scale_to_zero: bool = True  # whether the last GPU may stop
    season_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 86_400.0  # after which demand looks alike


class PlannerSettings(_Strict):
    """The online planner's settings; every tier but repair and serve can be switched off."""

    meet: bool = True
    pay: bool = True  # off: GPUs that are on stay on, and none starts
    leave: bool = True
    balance: bool = True
    move: bool = True
    smooth: bool = True
    residency: bool = True
    wait_for_place: bool = True  # whoever finds no place on time waits while its first chunk can still be on time
    balance_gain_min: _Share = 0.01
    balance_tolerance: _Share = 0.001
    smooth_moves: _Count = 0
    gap: _Share = 0.001  # the search stops at this relative gap
    exact: bool = True  # whether exact solvers are asked at all
    seed: _Count = 0
    urgent_after_s: _Seconds = 60.0  # who waits longer comes before others of equal priority, whatever its profile
    limits: MoveLimits = MoveLimits()
    idle: ResidencySettings = ResidencySettings()
    scaling: ScalingSettings = ScalingSettings()
    lateness_weights: dict[int, _PositiveCount] = {}  # by priority, for the tier meet; 1 where none is given

    def lateness_weight(self, priority: int) -> int:
        """What a late millisecond of a session of this priority counts, in those of one that weighs 1."""
        return self.lateness_weights.get(priority, 1)

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
