"""Weights on disk: one safetensors file that says how large the network is.

Decides how weights are stored and which revision they are; must never know what they were trained on.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized

from runtime.chunk_models.chunk_model import revision_of
from runtime.chunk_models.transformer.configuration import Configuration
from runtime.chunk_models.transformer.network import CONTROLS, Network
from runtime.chunk_models.transformer.prompts import VOCABULARY
from traces.errors import BadInputError
from traces.store import write_bytes

BUNDLED = "shapes.safetensors"

_FORMAT = "epochal.weights/1"
_ARITHMETIC = "1"  # grows when the same weights come to mean other bytes in a block


def load_bundled() -> Network:
    """The network that comes with the package."""
    with as_file(files("runtime.chunk_models.transformer").joinpath("weights", BUNDLED)) as path:
        return load(path)


def load(path: Path) -> Network:
    """A network for inference, in single precision. Raises `BadInputError` with what is wrong with the file."""
    try:
        with safe_open(str(path), framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, FileNotFoundError) as error:
        raise BadInputError.of(str(path), f"must be a readable safetensors file: {error}") from None
    if metadata.get("format") != _FORMAT:
        raise BadInputError.of(str(path), f"format={metadata.get('format')!r} must be {_FORMAT!r}")
    try:
        configuration = msgspec.json.decode(metadata.get("configuration", ""), type=Configuration)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadInputError.of(str(path), f"configuration cannot be read: {error}") from None
    network = Network(configuration, len(VOCABULARY))
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        differ = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise BadInputError.of(str(path), f"{differ[0]} is {found.get(differ[0])} and must be {wanted.get(differ[0])}")
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def save(path: Path, network: Network) -> None:
    """Store in half precision; the file is replaced whole or not at all."""
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in network.state_dict().items()}
    configuration = msgspec.json.encode(network.configuration).decode()
    write_bytes(path, serialized(tensors, {"format": _FORMAT, "configuration": configuration}))


def revision(network: Network, cache_dtype: torch.dtype, device: torch.device) -> str:
    """A hash of all that decides what a block's bytes mean and which bytes come next.

    That is weights as loaded, sizes, words, the cache's numbers and torch; on a processor its instructions and the
    number of threads, too, with which the same sums are made in another order.
    """
    parts = {
        f"weight {name}": np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes()
        for name, tensor in network.state_dict().items()
    }
    parts["configuration"] = msgspec.json.encode(network.configuration)
    parts["words"] = " ".join([*VOCABULARY, *CONTROLS]).encode()
    summed = "cuda"
    if device.type == "cpu":
        summed = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    parts["arithmetic"] = f"{_ARITHMETIC} {cache_dtype} torch {torch.__version__} {summed}".encode()
    return revision_of(parts)
