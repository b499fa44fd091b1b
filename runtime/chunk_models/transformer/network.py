"""The network: from noisy patches, what is known about them and attention to what was before, to clean patches.

Decides the arithmetic of one pass; must never know sessions, caches or devices. Attention is given as a function, so
that training (whole videos under a mask) and serving (ragged sessions over a cache) run the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from runtime.chunk_models.transformer.configuration import CHANNELS, Configuration
from runtime.chunk_models.transformer.positions import PLACE_FEATURES, START_FEATURES, rotated

CONTROLS = ("", "left", "right", "up", "down", "stop")  # by number; the first lets go

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]  # queries, keys, values -> mixed; each [n, tokens, heads, head_dim]

_LEVEL_WAVES = 32
_SHIFTS = 6  # per block: shift, scale and gate of attention and of the two-layer part


class Block(nn.Module):
    """Attention and a two-layer part, each shifted, scaled and gated by what is known about the frame."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        dim = configuration.dim
        self.heads, self.head_dim = configuration.heads, configuration.head_dim
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.mixed = nn.Linear(dim, dim)
        self.query_norm = nn.RMSNorm(self.head_dim, eps=1e-6)
        self.key_norm = nn.RMSNorm(self.head_dim, eps=1e-6)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(
        self, x: Tensor, shifts: Tensor, rotation: tuple[Tensor, Tensor], key_scale: Tensor, attend: Attend
    ) -> Tensor:
        """`x` is [n, frames, tokens, dim], `shifts` [n, frames, 1, 6, dim], `rotation` two of [n, frames * tokens, .]
        and `key_scale` [n, frames * tokens, 1, head_dim]; each may also be what broadcasts to that."""
        n, frames, tokens, dim = x.shape
        h = _normed(x) * (1 + shifts[..., 1, :]) + shifts[..., 0, :]
        parts = self.query_key_value(h).view(n, frames * tokens, 3, self.heads, self.head_dim)
        query, key, value = parts.unbind(2)
        query = rotated(self.query_norm(query), *rotation)
        key = rotated(self.key_norm(key), *rotation) * key_scale
        mixed = attend(query, key, value).reshape(n, frames, tokens, dim)
        x = x + shifts[..., 2, :] * self.mixed(mixed)
        h = _normed(x) * (1 + shifts[..., 4, :]) + shifts[..., 3, :]
        hidden = functional.gelu(self.up(h), approximate="tanh")
        out: Tensor = x + shifts[..., 5, :] * self.down(hidden)
        return out


class Network(nn.Module):
    """Predicts the clean patches of each frame (x-prediction, arXiv 2511.13720) at the noise level that it is told."""

    def __init__(self, configuration: Configuration, words: int) -> None:
        super().__init__()
        dim = configuration.dim
        self.configuration = configuration
        self.patch_in = nn.Linear(configuration.patch_values, dim)
        self.place_in = nn.Linear(PLACE_FEATURES, dim)
        self.start_in = nn.Linear(START_FEATURES, dim, bias=False)
        self.level_in = nn.Sequential(nn.Linear(2 * _LEVEL_WAVES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.word_in = nn.Embedding(words, dim)
        self.control_in = nn.Embedding(len(CONTROLS), dim)
        self.frame_in = nn.Embedding(configuration.frames, dim)
        fusing = nn.Linear(dim, dim)
        self.fused = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim), nn.SiLU(), fusing)
        self.shifts = nn.Linear(dim, (configuration.layers * _SHIFTS + 2) * dim)
        self.blocks = nn.ModuleList(Block(configuration) for _ in range(configuration.layers))
        self.patch_out = nn.Linear(dim, configuration.patch_values)
        with torch.no_grad():  # half-open gates, or nothing but the first and the last layer learns at first
            fusing.weight.zero_()
            self.shifts.bias[: -2 * dim].view(configuration.layers, 2, 3, dim)[:, :, 2] = 0.5

    def conditions(self, level: Tensor, words: Tensor, control: Tensor) -> Tensor:
        """What shifts each frame of a chunk: [..., frames, layers * 6 + 2, dim].

        `level` is [...], `words` [..., words of the prompt] and `control` [...], both whole numbers.
        """
        rates = torch.exp(-math.log(1000.0) * torch.arange(_LEVEL_WAVES, device=level.device) / _LEVEL_WAVES)
        angles = level[..., None] * 1000.0 * rates
        known = self.level_in(torch.cat([angles.cos(), angles.sin()], dim=-1))
        known = known + self.word_in(words).sum(dim=-2) + self.control_in(control)
        known = known[..., None, :] + self.frame_in.weight
        known = known + self.fused(known)  # a direction means another place in each frame
        shifts: Tensor = self.shifts(functional.silu(known))
        return shifts.view(*shifts.shape[:-1], -1, self.configuration.dim)

    def forward(
        self,
        patches: Tensor,
        places: Tensor,
        starts: Tensor,
        shifts: Tensor,
        rotation: tuple[Tensor, Tensor],
        key_scale: Tensor,
        attends: Sequence[Attend],
    ) -> Tensor:
        """Clean patches [n, frames, tokens, patch values] from noisy ones of the same shape.

        `places` is [tokens, .]; `starts` [n, frames, tokens, .]; `shifts` [n, frames, layers * 6 + 2, dim]; `rotation`
        two of [n or 1, frames * tokens, head_dim/2]; `key_scale` [n, frames * tokens, 1, head_dim] or what broadcasts
        to it; `attends` one function per layer.
        """
        shifts = shifts.unsqueeze(2)
        x = self.patch_in(patches) + self.place_in(places) + self.start_in(starts)
        for index, (block, attend) in enumerate(zip(self.blocks, attends, strict=True)):
            own = shifts[..., index * _SHIFTS : (index + 1) * _SHIFTS, :]
            x = block(x, own, rotation, key_scale, attend)
        out: Tensor = self.patch_out(_normed(x) * (1 + shifts[..., -1, :]) + shifts[..., -2, :])
        return out


def patches_of(frames: Tensor, patch: int) -> Tensor:
    """[..., 3, height, width] to [..., tokens, patch values]."""
    *more, channels, height, width = frames.shape
    cut = frames.reshape(*more, channels, height // patch, patch, width // patch, patch)
    return cut.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)


def frames_of(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """The reverse of `patches_of`."""
    cut = patches.reshape(*patches.shape[:-2], height // patch, width // patch, CHANNELS, patch, patch)
    return cut.movedim((-5, -4), (-4, -2)).flatten(-2).flatten(-3, -2)


def _normed(x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:])
