"""Which devices the workers of this machine take in turn, without asking CUDA.

Decides how many are counted on; must never know what runs on one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from traces.errors import BadInputError

_DRIVER = Path("/proc/driver/nvidia/gpus")  # a folder for each, as far as a container may see it


def named_devices(option: str, text: str) -> tuple[str, ...]:
    """Those that somebody has chosen. Raises `BadInputError`."""
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
            raise BadInputError.of(option, f"{name!r} must be cpu, cuda or cuda:N; several with commas between them")
    return names


def devices_here(environment: Mapping[str, str], driver: Path = _DRIVER) -> tuple[str, ...]:
    """Their names as workers take them; none where there is no driver."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        count = len(list(driver.iterdir())) if driver.is_dir() else 0
    else:
        named = [name.strip() for name in visible.split(",")]
        count = next((at for at, name in enumerate(named) if name in ("", "-1")), len(named))  # as CUDA reads it
    return tuple(f"cuda:{index}" for index in range(count))
