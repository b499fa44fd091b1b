"""How learning goes on: lesson after lesson, with an average of the weights, and a checkpoint to go on from.

Decides the order of the lessons, the learning rate and what a checkpoint holds; must never know a terminal.

All chance of a lesson comes from the seed and its number, so that learning that was interrupted goes on as if it had
not been.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from examples.train_shapes.lessons import draw, loss_of
from examples.train_shapes.world import film
from runtime.chunk_models.transformer.configuration import Configuration
from runtime.chunk_models.transformer.network import Network, patches_of
from runtime.chunk_models.transformer.prompts import VOCABULARY
from traces.errors import BadInputError
from traces.store import write_bytes


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What is learnt, and for how long."""

    configuration: Configuration = Configuration()
    lessons: int = 6000
    seed: int = 0
    videos: int = 8  # in a lesson at the smallest resolution
    chunks: int = 5  # of each video
    later_max: int = 20  # where a video goes on after its first chunk, in chunks
    rate: float = 1.5e-3  # at its highest
    rate_low: float = 2e-5
    warm_lessons: int = 200
    own_from: float = 0.25  # of the lessons: from there on part of the past is the network's own
    average: float = 0.999

    @classmethod
    def further(cls, configuration: Configuration, seed: int) -> Course:
        """For a network that has learnt before: not as fast, and its own past is worth learning from at once."""
        return cls(configuration=configuration, seed=seed, rate=8e-4, own_from=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A network and what it takes to teach it further; the tensors in it change with each lesson."""

    course: Course
    network: Network
    average: Network
    optimizer: torch.optim.AdamW

    @classmethod
    def begin(cls, course: Course, learnt: Network | None = None) -> Learner:
        """From nothing, or from the weights of a network that has learnt before."""
        torch.manual_seed(course.seed)
        network = Network(course.configuration, len(VOCABULARY))
        if learnt is not None:
            network.load_state_dict(learnt.state_dict())
        average = Network(course.configuration, len(VOCABULARY)).requires_grad_(False)
        average.load_state_dict(network.state_dict())
        optimizer = torch.optim.AdamW(network.parameters(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.01)
        return cls(course=course, network=network, average=average, optimizer=optimizer)

    def learn(self, lesson: int) -> tuple[float, float]:
        """One step; the errors on first chunks and on those that go on from others."""
        course = self.course
        chance = torch.Generator().manual_seed(course.seed * 1_000_003 + lesson)
        resolutions = course.configuration.resolutions
        resolution = resolutions[0] if lesson % 3 else resolutions[-1 - lesson // 3 % max(1, len(resolutions) - 1)]
        pixels = resolution.height * resolution.width / (resolutions[0].height * resolutions[0].width)
        videos = max(1, round(course.videos / pixels))
        footage = film(course.configuration, resolution, videos, course.chunks, chance, later_max=course.later_max)
        clean = patches_of(footage.frames, course.configuration.patch)
        drawn = draw(course.configuration, clean, chance, own_rounds=self._own_rounds(lesson, chance))
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(course, lesson)
        loss, parts = loss_of(self.network, resolution, footage, drawn)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        kept = min(course.average, (1 + lesson) / (10 + lesson))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters(), strict=True):
                slow.lerp_(fast, 1 - kept)
        return float(parts[0]), float(parts[1])

    def _own_rounds(self, lesson: int, chance: torch.Generator) -> int:
        if lesson < self.course.own_from * self.course.lessons:
            return 0
        drawn = float(torch.rand(1, generator=chance))
        return 0 if drawn < 0.4 else 1 if drawn < 0.65 else 2 if drawn < 0.85 else 3


def rate_at(course: Course, lesson: int) -> float:
    """A short rise, then half a cosine down to `rate_low`."""
    rise = min(1.0, (1 + lesson) / course.warm_lessons)
    fall = 0.5 + 0.5 * math.cos(math.pi * min(1.0, lesson / course.lessons))
    return course.rate_low + (course.rate - course.rate_low) * rise * fall


def save_checkpoint(path: Path, learner: Learner, lessons_done: int) -> None:
    """All that `load_checkpoint` needs; whole or not at all."""
    tensors = {f"network.{name}": tensor for name, tensor in learner.network.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in learner.average.state_dict().items()}
    names = [name for name, _ in learner.network.named_parameters()]
    for index, state in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"moments.{names[index]}.{key}": value.clone() for key, value in state.items()}
    metadata = {"course": msgspec.json.encode(learner.course).decode(), "lessons_done": str(lessons_done)}
    write_bytes(path, serialized(tensors, metadata))


def load_checkpoint(path: Path) -> tuple[Learner, int]:
    """The learner as it was, and the number of lessons that it has had. Raises `BadInputError`."""
    try:
        with safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors: dict[str, Tensor] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, FileNotFoundError) as error:
        raise BadInputError.of(str(path), f"must be a checkpoint of this command: {error}") from None
    try:
        course = msgspec.json.decode(metadata["course"], type=Course)
        lessons_done = int(metadata["lessons_done"])
    except (KeyError, ValueError, msgspec.MsgspecError) as error:
        raise BadInputError.of(str(path), f"must be a checkpoint of this command: {error}") from None
    learner = Learner.begin(course)
    for part, network in (("network.", learner.network), ("average.", learner.average)):
        network.load_state_dict({name[len(part) :]: value for name, value in tensors.items() if name.startswith(part)})
    states: dict[int, dict[str, Tensor]] = {}
    for index, (name, _) in enumerate(learner.network.named_parameters()):
        keys = (key for key in ("step", "exp_avg", "exp_avg_sq") if f"moments.{name}.{key}" in tensors)
        states[index] = {key: tensors[f"moments.{name}.{key}"] for key in keys}
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": states if lessons_done else {}, "param_groups": groups})
    return learner, lessons_done
