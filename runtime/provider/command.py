"""How a worker of this machine is started: its arguments and its environment.

Decides what a child is told and what it inherits; must never know when it is started. Secrets are named by the path of
their file: what is in arguments or environments can be read by others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runtime.transfer.quiet import quiet_environment
from scheduler.cluster import GpuId
from traces.errors import BadInputError

NAME_MAX = 64  # characters of a worker's name
# -P: nothing is imported from the folder that we happen to be in.
EPOCHAL = (sys.executable, "-P", "-c", "from runtime.cli.main import main; main()")
_KEPT = frozenset(
    ("HOME", "LANG", "LD_LIBRARY_PATH", "LOGNAME", "PATH", "PYTHONPATH", "TMPDIR", "TZ", "USER", "XDG_CACHE_HOME")
)
_KEPT_PREFIXES = ("CUDA_", "LC_", "NCCL_", "NVIDIA_")
_THREADS = ("MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One process: what is run, and under which name its worker speaks."""

    worker: str
    program: tuple[str, ...]
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    threads: int = 1  # of a processor, for whoever makes the environment on another machine

    @property
    def command(self) -> tuple[str, ...]:
        return (*self.program, *self.arguments)


LaunchOf = Callable[[GpuId], Launch]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """`epochal worker` for each GPU: options that all have, and those of a single one, as `--device cuda:1`."""

    options: tuple[str, ...]  # --controller and --gateway at least
    own_options: Mapping[GpuId, tuple[str, ...]] = field(default_factory=dict)
    threads: int = 1  # of a processor, equal on all workers: with others a session's chunks are not the same bytes
    program: tuple[str, ...] = EPOCHAL
    inherited: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __call__(self, gpu_id: GpuId) -> Launch:
        """The worker is named after its GPU. Raises `BadInputError`."""
        if not 0 < len(gpu_id) <= NAME_MAX:
            raise BadInputError.of("fleet", f"GPU {gpu_id!r} must have a name of 1 to {NAME_MAX} characters")
        own = self.own_options.get(gpu_id, ())
        return Launch(
            worker=gpu_id,
            program=self.program,
            arguments=(
                "worker",
                f"--name={gpu_id}",  # one word, so that no name is taken for an option
                f"--threads={self.threads}",
                *self.options,
                *own,
            ),
            environment=child_environment(self.inherited, self.threads),
            threads=self.threads,
        )


def child_environment(inherited: Mapping[str, str], threads: int) -> Mapping[str, str]:
    """What a worker needs of it and nothing else: no token or password of whoever started us."""
    kept = {name: value for name, value in inherited.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    counts = dict.fromkeys(_THREADS, str(threads))
    return {**kept, **quiet_environment(), **counts, "PYTHONFAULTHANDLER": "1"}  # so that a crash says where
