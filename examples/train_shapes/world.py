"""The world that the network learns: one shape that moves over a plain background and obeys.

Decides how shapes move and look; must never know a network.

A shape moves straight at one speed. Nobody steering, it bounces off the walls; steered, it takes the direction at the
chunk's beginning and stops where a wall is. A prompt's direction is that of the first chunk. A new prompt changes
colour, shape and background at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.chunk_models.transformer.configuration import Configuration, Resolution
from runtime.chunk_models.transformer.network import CONTROLS
from runtime.chunk_models.transformer.noise import START_MARGIN
from runtime.chunk_models.transformer.prompts import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, VOCABULARY

RADIUS_SHARE = 1 / 6  # of the smaller side
SPEED_SHARE = 1 / 20  # per frame

_NEW_PROMPT_SHARE = 0.15  # of the chunks after the first
_STEER_SHARE = 0.25  # of the chunks in which nobody steers: somebody begins to
_RELEASE_SHARE = 0.35  # of the chunks in which somebody steers: another direction, or nobody

_COLOURS = torch.tensor(list(COLOURS.values()))
_BACKGROUNDS = torch.tensor(list(BACKGROUNDS.values()))
_DIRECTIONS = torch.tensor(list(DIRECTIONS.values()), dtype=torch.float32)
_STEERED = torch.tensor([DIRECTIONS.get(name, (0, 0)) for name in CONTROLS], dtype=torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """Some chunks of n videos: the first, and others in a row that come later."""

    numbers: Tensor  # [n, chunks] of each chunk in its video
    frames: Tensor  # [n, chunks, frames, 3, height, width], in [-1, 1]
    shape_share: Tensor  # [n, chunks, frames, 1, height, width], 1 where the shape is
    words: Tensor  # [n, chunks, words of a prompt]
    controls: Tensor  # [n, chunks]
    start: Tensor  # [n, 2] y and x in pixels


def film(
    configuration: Configuration,
    resolution: Resolution,
    n: int,
    chunks: int,
    chance: torch.Generator,
    *,
    later_max: int,
) -> Footage:
    """Chunk 0 and `chunks - 1` more in a row: from 1 on in half of the videos, from up to `later_max` in the rest."""
    begins = torch.where(_share(n, chance) < 0.5, 1, 1 + _number(n, later_max, chance))
    numbers = torch.cat([torch.zeros(n, 1, dtype=torch.long), begins[:, None] + torch.arange(chunks - 1)], dim=1)
    size = torch.tensor([resolution.height, resolution.width], dtype=torch.float32)
    start = size * (START_MARGIN + (1 - 2 * START_MARGIN) * torch.rand(n, 2, generator=chance))
    words, controls = _script(n, int(numbers.max()) + 1, chance)
    places = motion(configuration, size, start, words, controls)
    rows = torch.arange(n)[:, None]
    places, words, controls = places[rows, numbers], words[rows, numbers], controls[rows, numbers]
    frames, shape_share = render(resolution, places, words)
    return Footage(numbers=numbers, frames=frames, shape_share=shape_share, words=words, controls=controls, start=start)


def render(resolution: Resolution, places: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Draw shapes at `places` [..., frames, 2] with the looks of `words` [..., 4]: frames, and where the shape is."""
    radius = min(resolution.height, resolution.width) * RADIUS_SHARE
    y, x = torch.meshgrid(torch.arange(resolution.height) + 0.5, torch.arange(resolution.width) + 0.5, indexing="ij")
    down = y - places[..., 0, None, None]
    right = x - places[..., 1, None, None]
    colour, shape, _, background = (kinds(words)[..., index] for index in range(4))
    circle = (down.square() + right.square()).sqrt() - radius
    square = torch.maximum(down.abs(), right.abs()) - radius * 0.88
    triangle = torch.maximum(down - radius * 0.75, (3**0.5 * right.abs() - down) / 2 - radius * 0.55)
    outside = torch.stack([circle, square, triangle], dim=-4)
    chosen = shape[..., None, None, None, None].expand(*outside.shape[:-4], 1, *outside.shape[-3:])
    share = (0.5 - outside.gather(-4, chosen).squeeze(-4)).clamp(0, 1).unsqueeze(-3)
    front = _COLOURS[colour][..., None, :, None, None]
    back = _BACKGROUNDS[background][..., None, :, None, None]
    return (share * front + (1 - share) * back) * 2 - 1, share


def kinds(words: Tensor) -> Tensor:
    """Numbers in the vocabulary [..., 4] as numbers within their kinds."""
    firsts = torch.tensor([0, len(COLOURS), len(COLOURS) + len(SHAPES), len(VOCABULARY) - len(BACKGROUNDS)])
    return words - firsts


def _script(n: int, chunks: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Prompts [n, chunks, 4] and controls [n, chunks]."""
    words, controls = [], []
    now, control = _prompts(n, chance), torch.where(_share(n, chance) < 0.1, _number(n, len(CONTROLS), chance), 0)
    for chunk in range(chunks):
        if chunk:
            changes = _share(n, chance) < _NEW_PROMPT_SHARE
            now = torch.where(changes[:, None], _prompts(n, chance), now)
            other = _share(n, chance) < torch.where(control == 0, _STEER_SHARE, _RELEASE_SHARE)
            asked = torch.where(_share(n, chance) < 0.4, 0, 1 + _number(n, len(CONTROLS) - 1, chance))
            asked = torch.where((control == 0) & (asked == 0), 1 + _number(n, len(CONTROLS) - 1, chance), asked)
            control = torch.where(other, asked, control)
        words.append(now)
        controls.append(control)
    return torch.stack(words, dim=1), torch.stack(controls, dim=1)


def motion(configuration: Configuration, size: Tensor, start: Tensor, words: Tensor, controls: Tensor) -> Tensor:
    """Centres [n, chunks, frames, 2]."""
    speed = float(size.min()) * SPEED_SHARE
    low = torch.full((2,), float(size.min()) * RADIUS_SHARE)
    high = size - low
    place, step = start, _DIRECTIONS[kinds(words[:, 0])[:, 2]] * speed
    places = []
    for chunk in range(words.shape[1]):
        steered = (controls[:, chunk] != 0)[:, None]
        step = torch.where(steered, _STEERED[controls[:, chunk]] * speed, step)
        for frame in range(configuration.frames):
            if chunk or frame:
                place = place + step
            out = (place < low) | (place > high)
            bounced = torch.where(place < low, 2 * low - place, torch.where(place > high, 2 * high - place, place))
            place = torch.where(steered, place.clamp(low, high), bounced)
            step = torch.where(out, torch.where(steered, torch.zeros_like(step), -step), step)
            places.append(place)
    return torch.stack(places, dim=1).view(len(start), -1, configuration.frames, 2)


def _prompts(n: int, chance: torch.Generator) -> Tensor:
    counts = (len(COLOURS), len(SHAPES), len(DIRECTIONS), len(BACKGROUNDS))
    drawn = torch.stack([_number(n, count, chance) for count in counts], dim=-1)
    return drawn + (-kinds(torch.zeros(4, dtype=torch.long)))


def _number(n: int, below: int, chance: torch.Generator) -> Tensor:
    return torch.randint(0, below, (n,), generator=chance)


def _share(n: int, chance: torch.Generator) -> Tensor:
    return torch.rand(n, generator=chance)
