"""The bundled weights: another process goes on with the same bytes, and the video shows what was asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from examples.train_shapes.judge import judge
from examples.train_shapes.rollouts import play, random_scenes
from runtime.chunk_models.chunk_model import Head
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.weights import load_bundled
from tests.e2e.command import ROOT, environment
from tests.runtime.chunk_models.hosts import Host

GO_ON = """
import msgspec, sys, torch
from safetensors.torch import load_file, save_file
from runtime.chunk_models.chunk_model import Head
from runtime.chunk_models.transformer.chunks import TransformerChunkModel
from runtime.chunk_models.transformer.weights import load_bundled
from tests.runtime.chunk_models.hosts import Host
torch.set_num_threads(1)
host = Host(TransformerChunkModel(load_bundled()))
head = msgspec.msgpack.decode(open(sys.argv[1] + "/head", "rb").read(), type=Head)
host.put_in(head, load_file(sys.argv[1] + "/block")["block"], place=3)
host.run_chunks(2, head.session)
frames = [host.chunks[head.session, head.chunk_number + index] for index in range(2)]
save_file({"frames": torch.stack([torch.from_numpy(one) for one in frames])}, sys.argv[1] + "/frames")
"""


@pytest.fixture(scope="module")
def host() -> Host:
    return Host(TransformerChunkModel(load_bundled()))


def test_another_process_goes_on_with_the_same_bytes(host: Host, tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for name, profile in zip(names, ("shapes-32", "shapes-48", "shapes-32"), strict=True):
        host.open(host.head(name, profile, seed=ord(name), prompt="a cyan square moving left"))
    host.run_pass("b")  # not in step with the others
    host.run_chunks(5, *names)
    (tmp_path / "head").write_bytes(msgspec.msgpack.encode(host.seats["a"].head))
    save_file({"block": host.block("a").clone()}, str(tmp_path / "block"))
    subprocess.run([sys.executable, "-c", GO_ON, str(tmp_path)], cwd=ROOT, env=environment(), check=True)
    host.run_chunks(2, *names)
    frames = load_file(str(tmp_path / "frames"))["frames"].numpy()
    for index in range(2):
        np.testing.assert_array_equal(frames[index], host.chunks["a", 5 + index])


def test_heads_travel_as_small_messages(host: Host) -> None:
    head = host.head("s" * 36, "shapes-32", prompt="a cyan square moving left on black")
    packed = msgspec.msgpack.encode(head)
    assert len(packed) < 300
    assert msgspec.msgpack.decode(packed, type=Head) == head


def test_unknown_controls_are_refused(host: Host) -> None:
    head = msgspec.structs.replace(host.head("s", "shapes-32"), control="jump")
    assert host.model.refusal(head) == "control='jump' must be one of '', 'left', 'right', 'up', 'down', 'stop'"


def test_the_video_shows_what_was_asked() -> None:
    """Far from the card's figures, so that other processors and versions pass too."""
    torch.set_num_threads(1)
    found = judge(play(TransformerChunkModel(load_bundled()), random_scenes("shapes-32", 12, 8, seed=2), 8))
    assert found["frames with exactly one shape"].share > 0.9
    assert found["frames of the prompt's colour"].share > 0.9
    assert found["first chunks that move as the prompt says"].share > 0.7
    assert found["chunks that obey a control, where a wall leaves room"].share > 0.7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_on_a_gpu_a_session_is_the_same_bytes_in_company() -> None:
    made = []
    for company in ((), ("b", "c")):
        model = TransformerChunkModel(load_bundled(), "cuda")
        size = max(profile.state_bytes for profile in model.profiles.values())
        host = Host(TransformerChunkModel(load_bundled()))
        host.model, host.room = model, size
        host.arena = torch.full((4 * size,), 255, dtype=torch.uint8, device="cuda")
        model.bind(host.arena)
        for name in ("a", *company):
            host.open(host.head(name, "shapes-48", seed=ord(name)))
        host.run_chunks(6, "a", *company)
        made.append(host.chunks["a", 5])
    np.testing.assert_array_equal(made[0], made[1])
