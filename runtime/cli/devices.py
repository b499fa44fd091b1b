"""What commands need that compute on a device: the optional libraries, and the device itself.

Decides what is said where one of them is missing; must never import torch before it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from traces.errors import BadInputError

if TYPE_CHECKING:
    import torch

_PARTS = (
    "av",
    "fastapi",
    "msgspec",
    "prometheus_client",
    "safetensors",
    "torch",
    "uvicorn",
    "websockets",
    "zmq",
)  # of the extra `runtime`


@contextmanager
def parts_are_there() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        part = (error.name or "").partition(".")[0]
        if part not in _PARTS:
            raise
        raise BadInputError.of(part, "is not installed; pip install 'epochal[runtime]'") from None


def demand_parts() -> None:
    """Before processes are started that would each say so. Raises `BadInputError`."""
    missing = next((part for part in _PARTS if find_spec(part) is None), None)
    if missing is not None:
        raise BadInputError.of(missing, "is not installed; pip install 'epochal[runtime]'")


def chosen_device(name: str) -> torch.device:
    """That of `--device`; without a name, CUDA where there is one. Raises `BadInputError`."""
    import torch

    try:
        chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise BadInputError.of("--device", f'"{name}" must be cpu, cuda or cuda:N') from None
    if chosen.type not in ("cpu", "cuda"):
        raise BadInputError.of("--device", f'"{name}" must be cpu, cuda or cuda:N')
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise BadInputError.of(
            "--device", f'"{name}" is not there; torch sees {torch.cuda.device_count()} CUDA devices'
        )
    return chosen
