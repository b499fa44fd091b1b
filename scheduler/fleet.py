"""The fleet: GPU types and pools, links, profiles with their measured costs, targets and budgets.

Decides what a valid fleet file is (`epochal.fleet/1`); must never know a session or a trace.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Batching = Literal["grouped", "packed", "turboserve"]

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0)]
_PositiveCount = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class GpuType(_Strict):
    """One kind of GPU and what it costs."""

    memory_gib: _Positive
    weights_gib: _NonNegative = 0.0  # taken before any session's state
    price_per_hour: _NonNegative  # dollars, from switching on to switching off
    startup_s: _NonNegative  # from switching on (and paying) to usable


class Pool(_Strict):
    """Nodes of equal GPUs; node i of pool p is named "p/i"."""

    gpu_type: str
    nodes: _PositiveCount
    gpus_per_node: _PositiveCount
    gpus_min: _Count = 0  # usable throughout [0, horizon)
    host_memory_gib: _Positive | None = None  # per node; None: unlimited


class Links(_Strict):
    """Bandwidths in GB/s (1e9 bytes) and the fixed part of each transfer."""

    device_host_gb_s: _Positive
    device_device_gb_s: _Positive
    node_node_gb_s: _Positive
    latency_ms: _NonNegative


class Profile(_Strict):
    """What one kind of session costs on each GPU type; the batching model says which table applies."""

    chunk_s: _Positive
    state_gib: _Positive
    target_ms: _Positive | None = None  # None: the fleet's target
    latency_ms: dict[str, list[_NonNegative]] | None = None  # grouped: batch of 1, 2, 3, ...
    per_session_ms: dict[str, _NonNegative] | None = None  # packed
    base_ms: dict[str, _NonNegative] | None = None  # turboserve: W


class PackedCost(_Strict):
    """The part of a packed round that is paid once, and the most sessions it takes."""

    fixed_ms: _NonNegative
    sessions_max: _PositiveCount


class Target(_Strict):
    chunk_latency_ms: _Positive
    first_chunk_ms: _Positive


class Budget(_Strict):
    """Limits on migrations per epoch boundary; None: unlimited."""

    moves_per_epoch: _Count | None = None
    moves_out_per_gpu: _Count | None = None
    moves_in_per_gpu: _Count | None = None
    gib_per_epoch: _NonNegative | None = None


class Fleet(_Strict):
    """A validated `epochal.fleet/1` file."""

    format: Literal["epochal.fleet/1"]
    epoch_s: _Positive
    batching: Batching
    gpu_types: dict[str, GpuType]
    pools: list[Pool]
    links: Links
    default_profile: str | None = None
    profiles: dict[str, Profile]
    packed: dict[str, PackedCost] | None = None
    crowding_ms: dict[str, list[_NonNegative]] | None = None
    target: Target
    budget: Budget = Budget()

    def target_ms(self, profile: str) -> float:
        """The chunk latency that sessions of this profile are promised."""
        own = self.profiles[profile].target_ms
        return self.target.chunk_latency_ms if own is None else own

    def effective(self) -> dict[str, Any]:
        """JSON-ready, defaults filled in; unlimited values are left out."""
        return self.model_dump(mode="json", exclude_none=True)
