"""Weights on disk, their revision, and how wrong files are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.chunk_models.transformer.weights import load, revision, save
from tests.runtime.chunk_models.hosts import TINY, tiny_network
from traces.errors import BadInputError


def test_weights_come_back_as_they_were_stored(tmp_path: Path) -> None:
    network = tiny_network()
    save(tmp_path / "w.safetensors", network)
    found = load(tmp_path / "w.safetensors")
    assert found.configuration == TINY
    for name, tensor in network.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor.half().float())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_revision_is_of_what_is_loaded_and_of_how_the_cache_is_kept(tmp_path: Path) -> None:
    save(tmp_path / "w.safetensors", tiny_network())
    network = load(tmp_path / "w.safetensors")
    assert revision(network, torch.float32) == revision(load(tmp_path / "w.safetensors"), torch.float32)
    assert revision(network, torch.float32) != revision(network, torch.bfloat16)
    before = revision(network, torch.float32)
    network.patch_out.bias[0] += 1e-3
    assert revision(network, torch.float32) != before


def test_wrong_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(BadInputError, match="must be a readable safetensors file"):
        load(path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(BadInputError, match="must be a readable safetensors file"):
        load(path)
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(BadInputError, match=r"format=None must be 'epochal\.weights/1'"):
        load(path)
    save_file({"x": torch.zeros(1)}, str(path), {"format": "epochal.weights/1", "configuration": '{"dim": 33}'})
    with pytest.raises(BadInputError, match="dim=33 must be heads=4 times"):
        load(path)
    save_file({"x": torch.zeros(1)}, str(path), {"format": "epochal.weights/1", "configuration": "{}"})
    with pytest.raises(BadInputError, match=r"blocks\.0\.down\.bias is None and must be \(128,\)"):
        load(path)
