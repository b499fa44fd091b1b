"""What is learnt is what is served, learning goes on where it stopped, and its commands say what is wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.train_shapes.learning import Course, Learner, load_checkpoint, rate_at, save_checkpoint
from examples.train_shapes.lessons import answers_to, draw, loss_of, sight
from examples.train_shapes.world import Footage, film
from runtime.chunk_models.chunk_model import Head, Seat, advanced
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.configuration import Configuration, Resolution
from runtime.chunk_models.transformer.network import CONTROLS, Network, patches_of
from runtime.chunk_models.transformer.noise import noise_of, start_of
from runtime.chunk_models.transformer.prompts import VOCABULARY, word_numbers
from tests.e2e.command import ROOT, environment
from traces.errors import BadInputError

ONE_PASS = Configuration(
    dim=32, layers=2, heads=2, noise_levels=(1.0,), resolutions=(Resolution(name="a", height=16, width=24),)
)
SMALL = Course(configuration=ONE_PASS, lessons=8, videos=2, warm_lessons=2)
ASKED = (("red circle up", ""), ("red circle up", "left"), ("blue square", "left"), ("blue square", ""))


def test_what_is_served_pass_by_pass_is_what_is_learnt_all_at_once() -> None:
    """The same chunks, through the rolling cache and through a lesson: rotations, sinks, sight and starts agree."""
    torch.manual_seed(1)
    network = Network(ONE_PASS, len(VOCABULARY)).requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    network.patch_out.weight.mul_(0.2)  # most answers within [-1, 1], which serving cuts at
    chunks, shape, seed = 7, ONE_PASS.resolutions[0], 11
    asked = [ASKED[number % len(ASKED)] for number in range(chunks)]
    served = _served(network, seed, asked)
    footage = Footage(
        numbers=torch.arange(chunks)[None],
        frames=served,
        shape_share=torch.zeros_like(served[:, :, :, :1]),
        words=torch.tensor([[word_numbers(prompt, seed) for prompt, _ in asked]]),
        controls=torch.tensor([[CONTROLS.index(control) for _, control in asked]]),
        start=start_of(shape, seed)[None],
    )
    clean = patches_of(served, ONE_PASS.patch)
    noise = torch.stack([noise_of(ONE_PASS, shape, seed, number, 0) for number in range(chunks)])[None]
    learnt = answers_to(network, shape, footage, clean, noise, torch.ones(1, chunks)).clamp(-1, 1)
    assert float(clean.std()) > 0.05
    assert float((learnt - clean).abs().max()) < 0.02  # served frames are whole numbers of 255ths


def _served(network: Network, seed: int, asked: list[tuple[str, str]]) -> torch.Tensor:
    """Frames [1, chunks, frames, 3, height, width] in [-1, 1], made by the ChunkModel."""
    model = TransformerChunkModel(network)
    model.bind(torch.full((model.profiles["a"].state_bytes,), 255, dtype=torch.uint8))
    seat = Seat(head=Head(session="s", profile="a", seed=seed, prompt="", revision=model.revision), offset=0)
    model.open(seat)
    made = []
    for number, (prompt, control) in enumerate(asked):
        head = Head(
            session="s",
            profile="a",
            seed=seed,
            prompt=prompt,
            control=control,
            chunk_number=number,
            revision=model.revision,
        )
        assert advanced(head).chunk_number == number + 1
        for _ in range(model.passes_per_chunk):
            made += [chunk.frames for chunk in model.run_pass([Seat(head=head, offset=0)])]
    frames = torch.from_numpy(np.stack(made)).permute(0, 1, 4, 2, 3)
    return frames[None].float() / 127.5 - 1


def test_a_noisy_copy_sees_the_clean_past_within_the_window_and_itself() -> None:
    seen = sight(Configuration(sink_chunks=1, ring_chunks=2), chunks=5)
    assert seen[:5] == [[0], [0, 1], [0, 1, 2], [0, 2, 3], [0, 3, 4]]
    assert seen[5:] == [[5], [0, 6], [0, 1, 7], [0, 2, 8], [0, 3, 9]]


def test_learning_lowers_the_error() -> None:
    learner = Learner.begin(SMALL)
    chance = torch.Generator().manual_seed(99)
    resolution = ONE_PASS.resolutions[0]
    footage = film(ONE_PASS, resolution, 4, 5, chance, later_max=5)
    drawn = draw(ONE_PASS, patches_of(footage.frames, ONE_PASS.patch), chance, own_rounds=1)
    with torch.no_grad():
        before = float(loss_of(learner.network, resolution, footage, drawn)[0])
    for lesson in range(SMALL.lessons):
        learner.learn(lesson)
    with torch.no_grad():
        after = float(loss_of(learner.network, resolution, footage, drawn)[0])
    assert after < 0.9 * before


def test_interrupted_learning_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = Learner.begin(SMALL)
    for lesson in range(SMALL.lessons):
        whole.learn(lesson)
    part = Learner.begin(SMALL)
    for lesson in range(3):
        part.learn(lesson)
    save_checkpoint(tmp_path / "c.safetensors", part, 3)
    part, done = load_checkpoint(tmp_path / "c.safetensors")
    assert done == 3
    for lesson in range(done, SMALL.lessons):
        part.learn(lesson)
    for name, tensor in whole.average.state_dict().items():
        assert torch.equal(part.average.state_dict()[name], tensor), name
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_learning_further_begins_with_what_was_learnt() -> None:
    learnt = Learner.begin(SMALL)
    learnt.learn(0)
    further = Learner.begin(Course.further(ONE_PASS, seed=5), learnt.network)
    for name, tensor in learnt.network.state_dict().items():
        assert torch.equal(further.network.state_dict()[name], tensor), name
        assert torch.equal(further.average.state_dict()[name], tensor), name
    assert further.course.seed == 5


def test_the_rate_rises_and_falls() -> None:
    course = Course(lessons=100, warm_lessons=10)
    rates = [rate_at(course, lesson) for lesson in range(101)]
    assert max(rates) == max(rates[8:12])
    assert rates[0] < 0.2 * max(rates)
    assert rates[100] == course.rate_low


def test_a_wrong_checkpoint_is_told(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(BadInputError, match="must be a checkpoint of this command"):
        load_checkpoint(path)


def test_ctrl_c_keeps_what_was_learnt(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    command = [sys.executable, "-m", "examples.train_shapes", "learn", str(path), "--lessons", "10000", "--every", "1"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as learning:
        assert learning.stdout is not None
        first = learning.stdout.readline()
        learning.send_signal(signal.SIGINT)
        _, told = learning.communicate()
    assert first.startswith("1/10000 error")
    assert learning.returncode == 130
    assert "stopping; what was learnt is kept" in told
    _, done = load_checkpoint(path)
    assert done >= 1
