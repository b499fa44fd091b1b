"""The passes of one chunk: from noise to frames, and then into the cache.

Decides what a session carries from one pass to the next within a chunk, and how sessions at different passes share one;
must never know prompts' texts, seeds of others, or who asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from runtime.chunk_models.chunk_model import Seat
from runtime.chunk_models.transformer.attention import Window, attends
from runtime.chunk_models.transformer.cache import CacheLayout
from runtime.chunk_models.transformer.configuration import Resolution
from runtime.chunk_models.transformer.network import CONTROLS, Network, frames_of
from runtime.chunk_models.transformer.noise import noise_of, start_of
from runtime.chunk_models.transformer.positions import (
    PERIOD_FRAMES,
    no_start,
    place_features,
    rotations,
    start_features,
    timeless,
)
from runtime.chunk_models.transformer.prompts import word_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A chunk between its first pass and its last; belongs to one session and never travels."""

    seat: Seat  # as it was when the chunk began
    window: Window
    done: int  # passes
    patches: Tensor  # what the next pass is given, [frames, tokens, patch values]
    shifts: Tensor  # of each pass, [passes, frames, layers * 6 + 2, dim]
    rotation: tuple[Tensor, Tensor]  # [frames * tokens, head_dim/2]
    key_scale: Tensor  # [1, 1, head_dim]
    starts: Tensor  # [frames, tokens, .]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What all sessions of a resolution share on a device."""

    resolution: Resolution
    layout: CacheLayout
    places: Tensor
    no_start: Tensor
    rotations: tuple[tuple[Tensor, Tensor], ...]  # by the chunk's number, modulo their count

    @classmethod
    def of(cls, network: Network, resolution: Resolution, *, paged: bool, device: torch.device) -> Shape:
        configuration = network.configuration
        turns = [rotations(configuration, resolution, chunk * configuration.frames) for chunk in range(PERIOD_FRAMES)]
        absent = no_start(resolution, configuration.patch).expand(configuration.frames, -1, -1)
        return cls(
            resolution=resolution,
            layout=CacheLayout.of(configuration, resolution, paged=paged),
            places=place_features(configuration, resolution).to(device),
            no_start=absent.to(device),
            rotations=tuple((cosines.to(device), sines.to(device)) for cosines, sines in turns),
        )


def begin(network: Network, shape: Shape, seat: Seat) -> Progress:
    """Read the head, once. Everything is computed for this session alone, in shapes that company does not change."""
    configuration, head = network.configuration, seat.head
    device = shape.places.device
    passes = configuration.passes_per_chunk
    levels = torch.tensor([*configuration.noise_levels, 0.0], device=device)
    words = torch.tensor(word_numbers(head.prompt, head.seed), device=device).expand(passes, -1)
    control = torch.tensor(CONTROLS.index(head.control), device=device).expand(passes)
    starts = shape.no_start
    if head.chunk_number == 0:
        start = start_features(configuration, shape.resolution, start_of(shape.resolution, head.seed))
        starts = start.expand_as(starts).to(device)
    sink = head.chunk_number < configuration.sink_chunks
    key_scale = timeless(configuration) if sink else torch.ones(configuration.head_dim)
    return Progress(
        seat=seat,
        window=Window(
            offset=seat.offset,
            run_start=shape.layout.run_start(head.chunk_number),
            valid=shape.layout.valid_tokens(head.chunk_number),
        ),
        done=0,
        patches=noise_of(configuration, shape.resolution, head.seed, head.chunk_number, 0).to(device),
        shifts=network.conditions(levels, words, control),
        rotation=shape.rotations[head.chunk_number % len(shape.rotations)],
        key_scale=key_scale.to(device)[None, None],
        starts=starts,
    )


def advance(
    network: Network, shape: Shape, arena: Tensor, running: Sequence[Progress], *, paged: bool
) -> list[Progress]:
    """One pass for sessions of one resolution, wherever in their chunks they are."""
    windows = [one.window for one in running]
    answers = network(
        torch.stack([one.patches for one in running]),
        shape.places,
        torch.stack([one.starts for one in running]),
        torch.stack([one.shifts[one.done] for one in running]),
        (torch.stack([one.rotation[0] for one in running]), torch.stack([one.rotation[1] for one in running])),
        torch.stack([one.key_scale for one in running]),
        attends(arena, shape.layout, windows, paged=paged),
    )
    return [_after(network, shape, one, answer) for one, answer in zip(running, answers, strict=True)]


def frames_from(network: Network, shape: Shape, finished: Progress) -> Tensor:
    """The chunk's frames, uint8 [frames, height, width, 3]."""
    patch, resolution = network.configuration.patch, shape.resolution
    frames = frames_of(finished.patches, patch, resolution.height, resolution.width)
    return frames.add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _after(network: Network, shape: Shape, one: Progress, answer: Tensor) -> Progress:
    """What the next pass is given: less noise over the answer, or the answer itself; after the last, the frames."""
    levels = network.configuration.noise_levels
    done = one.done + 1
    if one.done >= len(levels):  # that pass wrote the finished chunk into the cache and has nothing to say
        return replace(one, done=done)
    patches = answer.clamp(-1, 1)
    if done < len(levels):
        head = one.seat.head
        noise = noise_of(network.configuration, shape.resolution, head.seed, head.chunk_number, done)
        patches = (1 - levels[done]) * patches + levels[done] * noise.to(patches.device)
    return replace(one, done=done, patches=patches)
