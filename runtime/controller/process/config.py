"""What a controller process is made of.

Decides the bounds and their usual values; must never know how they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.controller.controller import ControllerSettings
from scheduler.fleet import Fleet
from scheduler.planner_settings import PlannerSettings
from traces.errors import BadInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerConfig:
    """One controller over one journal."""

    fleet: Fleet
    journal: Path
    workers: str  # where workers connect, as ZeroMQ has addresses
    gateways: str  # where the gateway connects
    keys: Path | None = None  # folder of certificates; None: everything stays on this machine
    settings: ControllerSettings = field(default_factory=ControllerSettings)
    planner: PlannerSettings = field(default_factory=PlannerSettings)
    planning_share: float = 0.3  # of an epoch, that a plan may take
    early_s: float = 0.1  # that an early plan may take
    explain_s: float = 1.0  # that an explanation may take, while no plan is made
    spacing_s: float = 0.25  # between two plans, at least
    tick_s: float = 0.1


def check_fleet(fleet: Fleet, source: str = "fleet") -> None:
    """Raises `BadInputError` where GPUs would share host memory: it belongs to a worker's process, and ends with it.

    `source`: the file that it is from.
    """
    for index, pool in enumerate(fleet.pools):
        if pool.gpus_per_node != 1:
            raise BadInputError.of(
                source,
                f"pools[{index}].gpus_per_node={pool.gpus_per_node} must be 1: each worker is a node of its own; say "
                f"nodes: {pool.nodes * pool.gpus_per_node} instead",
            )
