"""Sessions that are played through the real ChunkModel: prompts, live controls, a new prompt, and the frames that come.

Decides what is asked and when; must never know whether the answer is good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from runtime.chunk_models.chunk_model import ChunkModel, Head, Seat, advanced
from runtime.chunk_models.transformer.network import CONTROLS
from runtime.chunk_models.transformer.prompts import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES

TOGETHER_MAX = 16  # sessions in a pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is asked of one session: by chunk number, what is asked from there on."""

    profile: str
    seed: int
    prompts: dict[int, str]
    controls: dict[int, str]

    def asked(self, number: int) -> tuple[str, str]:
        """The prompt and the control of a chunk."""
        return self.prompts[_last(self.prompts, number)], self.controls.get(_last(self.controls, number), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    scene: Scene
    frames: NDArray[np.uint8]  # [chunks, frames, height, width, 3]


def random_scenes(profile: str, count: int, chunks: int, seed: int) -> list[Scene]:
    """Steer from a quarter of the way on, let go, steer again at the half, let go; a new prompt near the end."""
    chance = np.random.default_rng(seed)
    scenes = []
    for index in range(count):
        first, second = (str(chance.choice(CONTROLS[1:])) for _ in range(2))
        quarter = chunks // 4
        scenes.append(
            Scene(
                profile=profile,
                seed=seed * 1_000_003 + index,
                prompts={0: random_prompt(chance), chunks - max(1, quarter - 1): random_prompt(chance)},
                controls={quarter: first, quarter + 3: "", 2 * quarter: second, 2 * quarter + 3: ""},
            )
        )
    return scenes


def random_prompt(chance: np.random.Generator) -> str:
    colour, shape, direction, background = (
        str(chance.choice(list(kind))) for kind in (COLOURS, SHAPES, DIRECTIONS, BACKGROUNDS)
    )
    return f"a {colour} {shape} moving {direction} on {background}"


def play(
    model: ChunkModel, scenes: list[Scene], chunks: int, heard: Callable[[int], None] = lambda _: None
) -> list[Rollout]:
    """Bind an arena and play the scenes, some at a time; `heard` is told how many more chunks are made."""
    size = max(profile.state_bytes for profile in model.profiles.values())
    model.bind(torch.zeros(size * TOGETHER_MAX, dtype=torch.uint8))
    played = []
    for begin in range(0, len(scenes), TOGETHER_MAX):
        played += _play_together(model, scenes[begin : begin + TOGETHER_MAX], size, chunks, heard)
    return played


def _play_together(
    model: ChunkModel, scenes: list[Scene], size: int, chunks: int, heard: Callable[[int], None]
) -> list[Rollout]:
    seats = [
        Seat(
            head=Head(session=f"{index}", profile=scene.profile, seed=scene.seed, prompt="", revision=model.revision),
            offset=index * size,
        )
        for index, scene in enumerate(scenes)
    ]
    for seat in seats:
        model.open(seat)
    made: list[list[NDArray[np.uint8]]] = [[] for _ in scenes]
    for number in range(chunks):
        for index, (seat, scene) in enumerate(zip(seats, scenes, strict=True)):
            prompt, control = scene.asked(number)
            head = msgspec.structs.replace(seat.head, prompt=prompt, control=control)
            seats[index] = Seat(head=head, offset=seat.offset)
        for _ in range(model.passes_per_chunk):
            for chunk in model.run_pass(seats):
                made[int(chunk.session)].append(chunk.frames)
        seats = [Seat(head=advanced(seat.head), offset=seat.offset) for seat in seats]
        heard(len(scenes))
    return [Rollout(scene=scene, frames=np.stack(frames)) for scene, frames in zip(scenes, made, strict=True)]


def _last(changes: dict[int, str], number: int) -> int:
    return max((when for when in changes if when <= number), default=-1)
