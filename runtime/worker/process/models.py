"""The ChunkModels that a worker process can run, by name.

Decides what each needs before it is loaded, and how much memory it takes beside states; must never know a session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from runtime.chunk_models.chunk_model import ChunkModel
from runtime.state.blocks import MIB
from scheduler.fleet_file import load_fleet
from traces.errors import BadInputError

ModelName = Literal["transformer", "emulated"]
RESERVE_BYTES = 256 * MIB  # for what allocators and libraries hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked for on the command line."""

    model: ModelName
    device: torch.device
    weights: Path | None = None  # of the transformer; None: those bundled
    fleet: Path | None = None  # of the emulation
    gpu_type: str = ""
    state_share: float = 2**-10  # of the fleet's states, that the emulation holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A ChunkModel that is warm, and what it takes."""

    model: ChunkModel
    weights_bytes: int
    pass_bytes: int  # for one session in a pass, as far as the device can tell

    def workspace_bytes(self, coalesce_max: int) -> int:
        """For weights, passes and a reserve."""
        return self.weights_bytes + coalesce_max * self.pass_bytes + RESERVE_BYTES


def load(wanted: Wanted) -> Loaded:
    """Load it and make it warm. Raises `BadInputError`."""
    model, weights_bytes = _LOADERS[wanted.model](wanted)
    if wanted.device.type != "cuda":
        model.warm_up()
        return Loaded(model=model, weights_bytes=weights_bytes, pass_bytes=0)
    torch.cuda.reset_peak_memory_stats(wanted.device)
    before = torch.cuda.memory_allocated(wanted.device)
    model.warm_up()
    peak = torch.cuda.max_memory_allocated(wanted.device)
    return Loaded(model=model, weights_bytes=before, pass_bytes=peak - before)


def _transformer(wanted: Wanted) -> tuple[ChunkModel, int]:
    from runtime.chunk_models.transformer import weights
    from runtime.chunk_models.transformer.chunks import TransformerChunkModel

    network = weights.load_bundled() if wanted.weights is None else weights.load(wanted.weights)
    size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    return TransformerChunkModel(network, wanted.device), size


def _emulated(wanted: Wanted) -> tuple[ChunkModel, int]:
    from runtime.chunk_models.emulated import EmulatedChunkModel

    if wanted.fleet is None:
        raise BadInputError.of("--fleet", "must be given for --model emulated: its latencies and states are emulated")
    fleet = load_fleet(wanted.fleet)
    gpu_type = wanted.gpu_type or next(iter(fleet.gpu_types))
    if gpu_type not in fleet.gpu_types:
        raise BadInputError.of("--gpu-type", f"{gpu_type!r} must be one of {', '.join(fleet.gpu_types)}")
    return EmulatedChunkModel(fleet, gpu_type, time.sleep, state_share=wanted.state_share), 0


_LOADERS: Mapping[ModelName, Callable[[Wanted], tuple[ChunkModel, int]]] = {
    "transformer": _transformer,
    "emulated": _emulated,
}
