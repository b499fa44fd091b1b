"""Weights on disk, their revision, and how wrong files are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.chunk_models.transformer.network import Network
from runtime.chunk_models.transformer.weights import load, revision, save
from tests.runtime.chunk_models.hosts import TINY, tiny_network
from traces.errors import BadInputError

CPU = torch.device("cpu")


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
    assert _revision(network) == _revision(load(tmp_path / "w.safetensors"))
    assert _revision(network) != revision(network, torch.bfloat16, CPU)
    before = _revision(network)
    network.patch_out.bias[0] += 1e-3
    assert _revision(network) != before


def test_a_revision_is_of_the_order_in_which_a_processor_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA the threads of the processor have no part in it."""
    network = tiny_network()
    threads = torch.get_num_threads()
    before = [revision(network, torch.float32, device) for device in (CPU, torch.device("cuda"))]
    try:
        torch.set_num_threads(threads + 1)
        with_more = [revision(network, torch.float32, device) for device in (CPU, torch.device("cuda"))]
    finally:
        torch.set_num_threads(threads)
    assert [one == other for one, other in zip(before, with_more, strict=True)] == [False, True]
    monkeypatch.setattr(torch, "__version__", "2.14.0")
    assert _revision(network) != before[0]


def _revision(network: Network) -> str:
    return revision(network, torch.float32, CPU)


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
