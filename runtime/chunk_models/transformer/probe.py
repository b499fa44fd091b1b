"""Whether a session's numbers here depend on how many others are computed with it.

Decides that by trying; must never know sessions. Matrix libraries pick a kernel by the number of rows, and another
kernel may add in another order. Where one does, sessions are computed one by one; and never more together than tried.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.chunk_models.transformer.network import Network
from runtime.chunk_models.transformer.passes import Shape
from runtime.chunk_models.transformer.positions import timeless

_TOGETHER = (2, 3, 4, 5, 6, 7, 8, 11, 16)


def together_max(network: Network, shape: Shape) -> int:
    """How many sessions may be computed at once: as many as gave, one by one, the same bits; at least 1."""
    configuration = network.configuration
    n, device = max(_TOGETHER), shape.places.device
    tokens = shape.places.shape[0]
    chance = torch.Generator().manual_seed(0)
    patches = torch.randn(n, configuration.frames, tokens, configuration.patch_values, generator=chance).to(device)
    shifts = torch.randn(
        n, configuration.frames, network.shifts.out_features // configuration.dim, configuration.dim, generator=chance
    ).to(device)
    starts = shape.no_start.expand(n, -1, -1, -1)
    rotation = (shape.rotations[1][0].expand(n, -1, -1), shape.rotations[1][1].expand(n, -1, -1))
    key_scale = timeless(configuration).to(device).expand(n, 1, 1, -1)

    def run(begin: int, end: int) -> Tensor:
        own = slice(begin, end)
        attends = [lambda query, key, value: (query + key) * value] * configuration.layers
        out: Tensor = network(
            patches[own],
            shape.places,
            starts[own],
            shifts[own],
            (rotation[0][own], rotation[1][own]),
            key_scale[own],
            attends,
        )
        return out

    with torch.inference_mode():
        alone = torch.cat([run(index, index + 1) for index in range(n)])
        agree = (torch.equal(run(0, together), alone[:together]) for together in _TOGETHER)
        return max(_TOGETHER) if all(agree) else 1
