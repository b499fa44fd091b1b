"""Whether a video shows what was asked: one shape, of the colour and form of the prompt, that moves as it was told.

Decides by looking at pixels alone; must never know how they were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from examples.train_shapes.rollouts import Rollout, Scene
from examples.train_shapes.world import RADIUS_SHARE, SPEED_SHARE, render
from runtime.chunk_models.transformer.configuration import Resolution
from runtime.chunk_models.transformer.prompts import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    VOCABULARY,
    word_numbers,
    words,
)

_APART = 0.2  # distance in colour, from 0 to 3**0.5, at which a pixel is no background
_BLOB_SHARE = 0.15  # of the expected area: less is a speck
_MOVED_SHARE = 0.5  # of the way that the world would have gone
_RESTS_SHARE = 0.3

Picture = NDArray[np.float64]  # [height, width, 3] in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one frame shows."""

    blobs: int
    centre: tuple[float, float]  # y and x of everything that is no background, in pixels; NaN if there is nothing
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How often something was as asked; `of` counts the occasions."""

    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / self.of if self.of else float("nan")


def judge(rollouts: Sequence[Rollout]) -> dict[str, Verdict]:
    """Shares over all rollouts; the names say of what."""
    seen = [_seen_in(rollout) for rollout in rollouts]
    pairs = list(zip(rollouts, seen, strict=True))
    single = [[frame.blobs == 1 for chunk in chunks for frame in chunk] for chunks in seen]
    return {
        "rollouts with exactly one shape in every frame": _verdict(all(one) for one in single),
        "frames with exactly one shape": _verdict(frame for one in single for frame in one),
        "first chunks that move as the prompt says": _verdict(
            _moves(rollout, chunks[0], words(word_numbers(rollout.scene.prompts[0], rollout.scene.seed))[2])
            for rollout, chunks in pairs
        ),
        "chunks that obey a control, where a wall leaves room": _verdict(_obedience(pairs)),
        "chunks left alone that go on, where a wall leaves room": _verdict(_going_on(pairs)),
        "frames of the prompt's colour": _verdict(
            frame.colour == _asked(rollout.scene, number)[0]
            for rollout, chunks in pairs
            for number, chunk in enumerate(chunks)
            for frame in chunk
        ),
        "chunks of the prompt's shape (last frame)": _verdict(
            _shape(rollout.frames[number, -1] / 255.0, chunk[-1], _asked(rollout.scene, number))
            == _asked(rollout.scene, number)[1]
            for rollout, chunks in pairs
            for number, chunk in enumerate(chunks)
        ),
    }


def _seen_in(rollout: Rollout) -> list[list[Seen]]:
    return [
        [_seen(frame / 255.0, _asked(rollout.scene, number)[3]) for frame in chunk]
        for number, chunk in enumerate(rollout.frames)
    ]


def _seen(picture: Picture, background: str) -> Seen:
    apart = np.linalg.norm(picture - np.array(BACKGROUNDS[background]), axis=-1)
    front = apart > _APART
    labels, count = ndimage.label(front, structure=np.ones((3, 3)))
    areas = ndimage.sum_labels(front, labels, range(1, count + 1))
    blobs = int(np.sum(np.asarray(areas) > _BLOB_SHARE * _radius(picture) ** 2 * np.pi))
    if not front.any():
        return Seen(blobs=0, centre=(float("nan"), float("nan")), colour="")
    y, x = ndimage.center_of_mass(np.where(front, apart, 0.0))
    core = np.median(picture[apart >= np.quantile(apart[front], 0.5)], axis=0)
    colour = min(COLOURS, key=lambda name: float(np.linalg.norm(core - np.array(COLOURS[name]))))
    return Seen(blobs=blobs, centre=(float(y), float(x)), colour=colour)


def _shape(picture: Picture, seen: Seen, asked: tuple[str, ...]) -> str:
    """The form whose drawing near the centre comes closest."""
    if np.isnan(seen.centre[0]):
        return ""
    height, width = picture.shape[:2]
    shifts = np.arange(-2, 2.01, 1.0)
    places = np.array([(seen.centre[0] + 0.5 + dy, seen.centre[1] + 0.5 + dx) for dy in shifts for dx in shifts])
    numbers = torch.tensor([[VOCABULARY.index(word) for word in (asked[0], shape, "up", asked[3])] for shape in SHAPES])
    drawn, _ = render(
        Resolution(name="", height=height, width=width),
        torch.tensor(places).float().expand(len(SHAPES), -1, -1),
        numbers,
    )
    given = torch.tensor(picture).float().permute(2, 0, 1) * 2 - 1
    errors = (drawn - given).square().mean(dim=(2, 3, 4)).amin(dim=1)
    return SHAPES[int(errors.argmin())]


def _moves(rollout: Rollout, chunk: Sequence[Seen], direction: str) -> bool:
    """From its first frame to its last the chunk goes that way, and hardly another."""
    (y0, x0), (y1, x1) = chunk[0].centre, chunk[-1].centre
    step_y, step_x = DIRECTIONS[direction]
    along = (y1 - y0) * step_y + (x1 - x0) * step_x
    across = abs((y1 - y0) * step_x) + abs((x1 - x0) * step_y)
    return along > _MOVED_SHARE * _way(rollout) and across < along / 2


def _obedience(pairs: Sequence[tuple[Rollout, list[list[Seen]]]]) -> Iterator[bool]:
    """Of each chunk that is steered."""
    for rollout, chunks in pairs:
        for number, chunk in enumerate(chunks):
            _, control = rollout.scene.asked(number)
            if control == "stop":
                (y0, x0), (y1, x1) = chunk[0].centre, chunk[-1].centre
                yield abs(y1 - y0) + abs(x1 - x0) < _RESTS_SHARE * _way(rollout)
            elif control and _room(rollout, chunk[0], control) > _way(rollout) * 1.1:
                yield _moves(rollout, chunk, control)


def _going_on(pairs: Sequence[tuple[Rollout, list[list[Seen]]]]) -> Iterator[bool]:
    """Of each chunk that nobody steers, after one that has gone straight."""
    for rollout, chunks in pairs:
        for number, (before, chunk) in enumerate(pairwise(chunks), 1):
            _, control = rollout.scene.asked(number)
            heading = next((name for name in DIRECTIONS if _moves(rollout, before, name)), None)
            if control or heading is None:
                continue
            if _room(rollout, before[-1], heading) > _way(rollout) * 1.1 * len(chunk) / (len(chunk) - 1):
                yield _moves(rollout, chunk, heading)


def _room(rollout: Rollout, seen: Seen, direction: str) -> float:
    """Pixels between the shape and the wall towards which it is steered."""
    side: tuple[int, int] = rollout.frames.shape[2:4]
    step_y, step_x = DIRECTIONS[direction]
    y, x = seen.centre
    away = {(-1, 0): y, (1, 0): side[0] - y, (0, -1): x, (0, 1): side[1] - x}[step_y, step_x]
    return away - min(side) * RADIUS_SHARE


def _way(rollout: Rollout) -> float:
    """How far the world's shape goes from a chunk's first frame to its last."""
    frames, *side = map(int, rollout.frames.shape[1:4])
    return (frames - 1) * min(side) * SPEED_SHARE


def _asked(scene: Scene, number: int) -> tuple[str, ...]:
    prompt, _ = scene.asked(number)
    return words(word_numbers(prompt, scene.seed))


def _radius(picture: Picture) -> float:
    return float(min(picture.shape[:2])) * RADIUS_SHARE


def _verdict(answers: Iterator[bool]) -> Verdict:
    given = list(answers)
    return Verdict(right=sum(given), of=len(given))
