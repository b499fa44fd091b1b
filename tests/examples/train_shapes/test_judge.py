"""The judge, on videos of the world itself and on videos with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from examples.train_shapes.judge import Verdict, judge
from examples.train_shapes.rollouts import Rollout, Scene, random_scenes
from examples.train_shapes.world import kinds, motion, render
from runtime.chunk_models.transformer.configuration import Configuration
from runtime.chunk_models.transformer.network import CONTROLS
from runtime.chunk_models.transformer.noise import start_of
from runtime.chunk_models.transformer.prompts import VOCABULARY, word_numbers

SIZES = Configuration()
CHUNKS = 12


def filmed(scene: Scene, heading: str | None = None, looks: tuple[str, str] | None = None) -> Rollout:
    """What the world does when it is asked this, or wrongly goes another way or looks otherwise."""
    resolution = SIZES.resolution(scene.profile)
    size = torch.tensor([resolution.height, resolution.width], dtype=torch.float32)
    asked = [scene.asked(number) for number in range(CHUNKS)]
    words = torch.tensor([[word_numbers(prompt, scene.seed) for prompt, _ in asked]])
    if heading is not None:
        words[:, :, 2] = VOCABULARY.index(heading)
    controls = torch.tensor([[CONTROLS.index(control) for _, control in asked]])
    places = motion(SIZES, size, start_of(resolution, scene.seed)[None], words, controls)
    if looks is not None:
        words[:, :, 0], words[:, :, 1] = (VOCABULARY.index(word) for word in looks)
    frames, _ = render(resolution, places, words)
    pictures = frames[0].add(1).mul(127.5).round().to(torch.uint8).movedim(2, -1).numpy()
    return Rollout(scene=scene, frames=pictures)


@pytest.mark.parametrize("profile", [one.name for one in SIZES.resolutions])
def test_the_world_itself_is_as_asked(profile: str) -> None:
    found = judge([filmed(scene) for scene in random_scenes(profile, 24, CHUNKS, seed=3)])
    assert all(verdict.of > 0 for verdict in found.values())
    assert {name: verdict for name, verdict in found.items() if verdict.share < 1} == {}


def verdict_of(found: dict[str, Verdict], part: str) -> Verdict:
    return next(verdict for name, verdict in found.items() if part in name)


def scene_of(prompt: str, controls: dict[int, str] | None = None) -> Scene:
    return Scene(profile="shapes-32", seed=4, prompts={0: prompt}, controls=controls or {})


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("move as the prompt says", lambda: filmed(scene_of("red circle up black"), heading="left")),
        ("prompt's colour", lambda: filmed(scene_of("red circle up black"), looks=("magenta", "circle"))),
        ("prompt's shape", lambda: filmed(scene_of("red circle up black"), looks=("red", "triangle"))),
        ("exactly one shape in every frame", lambda: doubled(filmed(scene_of("red circle up black")))),
        ("frames with exactly one shape", lambda: emptied(filmed(scene_of("red circle up black")))),
        ("left alone that go on", lambda: stopped(filmed(scene_of("red circle up black")))),
        ("obey a control", lambda: disobedient("right", "left")),
        ("obey a control", lambda: disobedient("stop", "up")),
    ],
)
def test_one_wrong_thing_is_seen(part: str, wrong: Callable[[], Rollout]) -> None:
    found = verdict_of(judge([wrong()]), part)
    assert found.of > 0
    assert found.right < found.of


def doubled(rollout: Rollout) -> Rollout:
    """Another shape in one frame's corner."""
    frames: NDArray[np.uint8] = rollout.frames.copy()
    frames[5, 1, -6:, -6:] = (235, 46, 46)
    frames[5, 1, :6, -6:] = (235, 46, 46)
    return Rollout(scene=rollout.scene, frames=frames)


def emptied(rollout: Rollout) -> Rollout:
    frames: NDArray[np.uint8] = rollout.frames.copy()
    frames[5, 1] = frames[0, 0, 0, 0]
    return Rollout(scene=rollout.scene, frames=frames)


def stopped(rollout: Rollout) -> Rollout:
    """It stays where it is in each second chunk."""
    frames: NDArray[np.uint8] = rollout.frames.copy()
    frames[1::2] = frames[1::2, :1]
    return Rollout(scene=rollout.scene, frames=frames)


def disobedient(asked: str, done: str) -> Rollout:
    prompt = "red circle up black"
    return Rollout(scene=scene_of(prompt, {2: asked, 3: ""}), frames=filmed(scene_of(prompt, {2: done, 3: ""})).frames)


def test_words_are_known_by_their_kind() -> None:
    words = torch.tensor(word_numbers("cyan triangle down grey", 0))
    assert kinds(words).tolist() == [5, 2, 3, 2]
