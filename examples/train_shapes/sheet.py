"""A contact sheet: one row of pictures per session, one picture per chunk.

Decides how pictures are laid out; must never know who made them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from examples.train_shapes.rollouts import Rollout, Scene

MAGNIFIED = 2
GAP = 4  # pixels between pictures
COLOURS = 64  # of the file: a few shapes and backgrounds, and what lies between

SCENES: tuple[tuple[str, dict[int, str], dict[int, str]], ...] = (  # prompt, later prompts, controls
    ("red circle moving right on black", {}, {}),
    ("blue square moving left on white", {}, {}),
    ("yellow triangle moving up on grey", {}, {5: "right", 8: ""}),
    ("green circle moving down on black", {}, {4: "left", 7: "up", 10: "stop"}),
    ("magenta square moving right on grey", {6: "cyan triangle on white"}, {}),
    ("cyan triangle moving left on black", {9: "yellow circle on grey"}, {3: "down", 6: "right", 9: ""}),
)


def scenes(profile: str) -> list[Scene]:
    """Prompts alone, live controls, and prompts that change."""
    return [
        Scene(profile=profile, seed=index, prompts={0: prompt, **prompts}, controls=dict(controls))
        for index, (prompt, prompts, controls) in enumerate(SCENES)
    ]


def write_sheet(path: Path, rollouts: Sequence[Rollout]) -> None:
    """PNG with the last frame of each chunk; videos of different sizes come below each other."""
    rows = [_row(rollout.frames[:, -1]) for rollout in rollouts]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(padded)).quantize(COLOURS).save(path, format="PNG", optimize=True)


def _row(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    large = pictures.repeat(MAGNIFIED, axis=1).repeat(MAGNIFIED, axis=2)
    spaced = np.pad(large, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(spaced), axis=1)
