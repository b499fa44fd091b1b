"""A worker process from its options to its exit code.

Decides what is checked before anything is allocated, and what a signal means; must never know what the worker does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import torch

from runtime.worker.process import models
from runtime.worker.process.addresses import check_address
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.memory import Given, mib, sizes
from runtime.worker.process.models import Wanted
from runtime.worker.process.worker import ExitCode, Worker


def run_worker(
    config: WorkerConfig, wanted: Wanted, workspace_bytes: int | None, told: Callable[[str], None]
) -> ExitCode:
    """`config` says what the worker may use in all; what is left beside the ChunkModel is for states.

    SIGTERM and Ctrl-C end it as it should. Raises `BadInputError`.
    """
    check_address("--controller", config.controller, has_keys=config.keys is not None)
    check_address("--gateway", config.gateway, has_keys=config.keys is not None)
    loaded = models.load(wanted)
    needed = loaded.workspace_bytes(config.coalesce_max) if workspace_bytes is None else workspace_bytes
    given = _given(config, wanted.device)
    found = sizes(given, needed, loaded.model.profiles.values(), config.sessions_max)
    if wanted.device.type == "cuda":
        total = torch.cuda.get_device_properties(wanted.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, config.device_bytes / total), wanted.device)
    worker = Worker(replace(config, device_bytes=found.device_bytes, host_bytes=found.host_bytes), loaded.model)
    told(
        f"worker {config.name}: {mib(found.device_bytes)} MiB for states on {config.device}, "
        f"{mib(found.host_bytes)} MiB in host memory, {mib(needed)} MiB for the ChunkModel"
    )
    _stop_on_signals(worker, told)
    return worker.run()


def _stop_on_signals(worker: Worker, told: Callable[[str], None]) -> None:
    def stop(number: int, _frame: FrameType | None) -> None:
        for again in (signal.SIGINT, signal.SIGTERM):
            signal.signal(again, signal.SIG_DFL)  # the second one does not wait
        told(f"{signal.Signals(number).name}: finishing the chunks in progress")
        worker.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _given(config: WorkerConfig, device: torch.device) -> Given:
    host_there = _host_there_bytes()
    if device.type != "cuda":
        return Given(
            device=config.device_bytes,
            host=config.host_bytes,
            device_there=host_there,
            host_there=host_there,
            shared=True,
        )
    free, _ = torch.cuda.mem_get_info(device)
    return Given(
        device=config.device_bytes,
        host=config.host_bytes,
        device_there=free + torch.cuda.memory_reserved(device),  # what this process holds already is its own
        host_there=host_there,
        shared=False,
    )


def _host_there_bytes() -> int:
    """What the host can give; pages that hold files count where the system says so."""
    if sys.platform == "linux":
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
