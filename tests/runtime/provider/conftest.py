"""A Ray cluster on this machine, with GPUs that are only counted, for tests that ask for one.

Decides how long it lasts; must never know what runs in it. Nothing of it is left. It listens on the host's address, as
Ray does, but to nobody without its token, which is a new one each time.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

WITH_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'epochal[ray]'")
GPUS = 3
STORE_BYTES = 80 << 20  # nothing is put there
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    with _short_folder() as folder, _environment(RAY_TMPDIR=folder):
        from ray.cluster_utils import Cluster

        own = Path(folder) / "ray"  # where Ray also notes which cluster is the last one: nobody else's is overwritten
        own.mkdir()
        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_gpus": GPUS,
                "num_cpus": 1,
                "include_dashboard": False,
                "object_store_memory": STORE_BYTES,
                "temp_dir": str(own),
            },
        )
        try:
            yield made
        finally:
            made.shutdown()


@contextmanager
def _environment(**more: str) -> Iterator[None]:
    changes = _ENVIRONMENT | more
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _short_folder() -> Iterator[str]:
    """Names of sockets may have about 100 characters."""
    made = tempfile.mkdtemp(prefix="ray-")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
