"""Where a token is: in its frame, in time, and as seen from the place where the session's first shape starts.

Decides the rotations of queries and keys and the features that tell walls and starts; must never know what is drawn.

Time is told by whole multiples of one slow turn, so that a rotation repeats every `PERIOD_FRAMES` frames: differences
stay exact however long a session lives. Keys of sink chunks have no part in time at all, because they are read from any
distance. A key therefore never depends on who reads it, and is stored rotated.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from runtime.chunk_models.transformer.configuration import Configuration, Resolution

PERIOD_FRAMES = 32  # more than any window plus a chunk, or two frames would be told apart by content alone
_TIME_TURNS = (1, 2, 4, 8)  # per period
_SPACE_RATES = (1.0, 0.6, 0.36, 0.2, 0.1, 0.05)  # radians per patch, repeated over the pairs that a head has
_PLACE_WAVES = (0.25, 0.5, 1.0, 2.0)  # radians per patch

PLACE_FEATURES = 4 * 2 * len(_PLACE_WAVES)  # four walls
START_FEATURES = 2 * (2 * len(_PLACE_WAVES) + 1) + 1  # two directions, and whether there is a start


def rotations(configuration: Configuration, resolution: Resolution, first_frame: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines for the tokens of a chunk from `first_frame` on: [frames * tokens per frame, head_dim/2]."""
    rows, columns = resolution.height // configuration.patch, resolution.width // configuration.patch
    pairs = configuration.head_dim // 2
    time_pairs = pairs // 4
    space_pairs = (pairs - time_pairs) // 2
    turns = torch.tensor([_TIME_TURNS[index % len(_TIME_TURNS)] for index in range(time_pairs)], dtype=torch.float64)
    rates = torch.tensor([_SPACE_RATES[index % len(_SPACE_RATES)] for index in range(space_pairs)], dtype=torch.float64)
    frames = torch.tensor([(first_frame + index) % PERIOD_FRAMES for index in range(configuration.frames)])
    time = frames[:, None] * turns * (2 * math.pi / PERIOD_FRAMES)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    space = torch.cat([y.reshape(-1, 1) * rates, x.reshape(-1, 1) * rates], dim=1)
    angles = torch.zeros(configuration.frames, rows * columns, pairs, dtype=torch.float64)
    angles[:, :, :time_pairs] = time[:, None]
    angles[:, :, time_pairs : time_pairs + 2 * space_pairs] = space[None]
    angles = angles.reshape(-1, pairs)
    return angles.cos().float(), angles.sin().float()


def timeless(configuration: Configuration) -> Tensor:
    """What a sink's keys are multiplied with, [head_dim]: 0 where time would be told."""
    pairs = configuration.head_dim // 2
    half = torch.ones(pairs)
    half[: pairs // 4] = 0.0
    return torch.cat([half, half])


def rotated(values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn `values` [..., tokens, heads, head_dim] by angles whose cosines and sines are [..., tokens, head_dim/2]."""
    first, second = values.chunk(2, dim=-1)
    cosines, sines = cosines.unsqueeze(-2), sines.unsqueeze(-2)
    return torch.cat([first * cosines - second * sines, first * sines + second * cosines], dim=-1)


def place_features(configuration: Configuration, resolution: Resolution) -> Tensor:
    """How far each token of a frame is from the four walls: [tokens per frame, PLACE_FEATURES]."""
    rows, columns = resolution.height // configuration.patch, resolution.width // configuration.patch
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    distances = torch.stack([y, rows - 1 - y, x, columns - 1 - x], dim=-1).reshape(-1, 4)
    return _waves(distances)


def start_features(configuration: Configuration, resolution: Resolution, start: Tensor) -> Tensor:
    """`start` (y and x in pixels, [..., 2]) as seen from each token: [..., tokens per frame, START_FEATURES]."""
    rows, columns = resolution.height // configuration.patch, resolution.width // configuration.patch
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    centres = torch.stack([y, x], dim=-1).reshape(-1, 2) + 0.5
    away = start[..., None, :] / configuration.patch - centres
    near = torch.clamp(away, -1.5, 1.5)
    there = torch.ones_like(away[..., :1])
    return torch.cat([_waves(away), near, there], dim=-1)


def no_start(resolution: Resolution, patch: int) -> Tensor:
    """The features of a chunk that goes on from another: [tokens per frame, START_FEATURES]."""
    return torch.zeros(resolution.tokens_per_frame(patch), START_FEATURES)


def _waves(distances: Tensor) -> Tensor:
    """Cosine and sine of each distance at each rate: [..., k] becomes [..., k * 2 * rates]."""
    angles = distances[..., None] * torch.tensor(_PLACE_WAVES)
    return torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(-2)
