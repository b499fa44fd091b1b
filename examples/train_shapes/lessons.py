"""One step of learning: whole videos at once, each chunk once clean (as the cache has it) and once noisy.

Decides what the network sees and what it should have said; must never know files or how long learning goes on.

The clean copy of a chunk is what the last pass of serving writes into the cache, the noisy copy what a denoise pass
computes. Who sees whom is what the rolling cache lets a session see. In part of the lessons the clean copies are the
network's own answers to the true past, so that it learns to go on from its own mistakes (self-forcing, arXiv
2506.08009, in parallel over the chunks).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from examples.train_shapes.world import Footage
from runtime.chunk_models.transformer.configuration import Configuration, Resolution
from runtime.chunk_models.transformer.network import Network, patches_of
from runtime.chunk_models.transformer.positions import (
    place_features,
    rotations,
    start_features,
    timeless,
)

SHAPE_WEIGHT = 4.0  # of a pixel of the shape or beside it, more than one of the background
CONTEXT_NOISE_MAX = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The chance in a lesson."""

    levels: Tensor  # [n, chunks]
    noise: Tensor  # [n, chunks, frames, tokens, patch values]
    context_noise: Tensor  # the same shape, scaled
    own_rounds: int  # how often the clean copies are replaced by the network's own answers


def draw(configuration: Configuration, clean: Tensor, chance: torch.Generator, *, own_rounds: int) -> Draw:
    """Levels at which serving works, half of the time noise alone, and some in between."""
    n, chunks = clean.shape[:2]
    serving = torch.tensor(configuration.noise_levels)
    levels = serving[torch.randint(0, len(serving), (n, chunks), generator=chance)]
    anywhere = 0.05 + 0.95 * torch.rand(n, chunks, generator=chance)
    which = torch.rand(n, chunks, generator=chance)
    levels = torch.where(which < 0.45, torch.ones_like(levels), torch.where(which < 0.7, anywhere, levels))
    scale = CONTEXT_NOISE_MAX * torch.rand(n, chunks, 1, 1, 1, generator=chance)
    return Draw(
        levels=levels,
        noise=torch.randn(clean.shape, generator=chance),
        context_noise=torch.randn(clean.shape, generator=chance) * scale,
        own_rounds=own_rounds,
    )


def loss_of(network: Network, resolution: Resolution, footage: Footage, drawn: Draw) -> tuple[Tensor, Tensor]:
    """The weighted squared error, and its parts: of first chunks and of those that go on from others."""
    patch = network.configuration.patch
    clean = patches_of(footage.frames, patch)
    # A chunk whose predecessor was not filmed cannot know how the shape moves.
    fair = torch.ones(clean.shape[:2])
    fair[:, 1] = (footage.numbers[:, 1] == 1).float()
    known = clean
    with torch.no_grad():
        for _ in range(drawn.own_rounds):
            alone = torch.ones_like(drawn.levels)
            own = answers_to(network, resolution, footage, known, drawn.noise, alone).clamp(-1, 1)
            known = torch.where(fair[:, :, None, None, None] > 0, own, clean)
    level = drawn.levels[:, :, None, None, None]
    noisy = (1 - level) * clean + level * drawn.noise
    answers = answers_to(network, resolution, footage, known + drawn.context_noise, noisy, drawn.levels)
    weight = 1 + SHAPE_WEIGHT * patches_of(_widened(footage.shape_share).expand_as(footage.frames), patch)
    errors = ((answers - clean).square() * weight).mean(dim=(2, 3, 4))
    total = (errors * fair).sum() / fair.sum()
    parts = torch.stack([errors[:, 0].mean(), (errors * fair)[:, 1:].sum() / fair[:, 1:].sum()])
    return total, parts.detach()


def _widened(share: Tensor) -> Tensor:
    """The shape and two pixels around it."""
    return functional.max_pool2d(share.flatten(0, 2), 5, 1, 2).view(share.shape)


def answers_to(
    network: Network, resolution: Resolution, footage: Footage, known: Tensor, noisy: Tensor, levels: Tensor
) -> Tensor:
    """What the network says to the noisy copies."""
    configuration = network.configuration
    chunks, frames = known.shape[1:3]
    both = torch.cat([known, noisy], dim=1).flatten(1, 2)
    level = torch.cat([torch.zeros_like(levels), levels], dim=1)
    twice = [torch.cat([part, part], dim=1) for part in (footage.words, footage.controls)]
    shifts = network.conditions(level, *twice).flatten(1, 2)
    starts = start_features(configuration, resolution, footage.start)[:, None, None]
    starts = functional.pad(starts.expand(-1, 1, frames, -1, -1), (0, 0, 0, 0, 0, 0, 0, chunks - 1))
    starts = torch.cat([starts, starts], dim=1).flatten(1, 2)
    rotation = _rotations(configuration, resolution, footage.numbers)
    sink = (footage.numbers < configuration.sink_chunks)[..., None].expand(-1, -1, rotation[0].shape[1] // chunks // 2)
    sink = torch.cat([sink, sink], dim=1).flatten(1)[..., None, None]
    key_scale = torch.where(sink, timeless(configuration), 1.0)
    seen = sight(configuration, chunks)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        queries, keys, values = (part.transpose(1, 2).chunk(2 * chunks, dim=2) for part in (query, key, value))
        mixed = [
            functional.scaled_dot_product_attention(
                one,
                torch.cat([keys[copy] for copy in copies], dim=2),
                torch.cat([values[copy] for copy in copies], dim=2),
            )
            for one, copies in zip(queries, seen, strict=True)
        ]
        return torch.cat(mixed, dim=2).transpose(1, 2)

    places = place_features(configuration, resolution)
    out: Tensor = network(both, places, starts, shifts, rotation, key_scale, [attend] * configuration.layers)
    return out.view(len(out), 2 * chunks, frames, *out.shape[2:])[:, chunks:]


def sight(configuration: Configuration, chunks: int) -> list[list[int]]:
    """Whom each copy sees; the clean copies are 0 to chunks - 1, and the noisy ones come behind them."""
    past = [
        [
            before
            for before in range(chunk)
            if before < configuration.sink_chunks or chunk - before < configuration.ring_chunks
        ]
        for chunk in range(chunks)
    ]
    clean = [[*before, chunk] for chunk, before in enumerate(past)]
    return clean + [[*before, chunks + chunk] for chunk, before in enumerate(past)]


def _rotations(configuration: Configuration, resolution: Resolution, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Of clean and noisy copies, [n, 2 * chunks * tokens per chunk, head_dim/2]."""
    found = {
        number: rotations(configuration, resolution, number * configuration.frames)
        for number in set(numbers.flatten().tolist())
    }
    rows = [[found[number] for number in row] for row in numbers.tolist()]
    cosines, sines = (torch.stack([torch.cat([pair[side] for pair in row] * 2) for row in rows]) for side in (0, 1))
    return cosines, sines
