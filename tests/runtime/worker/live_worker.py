"""The real worker process, with a hook that does something terrible when so many bytes of an attempt have moved."""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection

import torch

from runtime.transfer.lanes import LaneSettings
from runtime.transfer.messages import AttemptId
from runtime.worker.process.config import WorkerConfig
from runtime.worker.process.worker import Worker
from tests.runtime.transfer.small_worker import Fault
from tests.runtime.worker.live_models import MODELS


class Striking:
    """Called from lanes; the fault comes over the pipe beforehand."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self._fault: Fault | None = None

    def __call__(self, attempt: AttemptId, moved_bytes: int) -> None:
        with self._lock:
            while self._pipe.poll(0):
                self._fault = self._pipe.recv()
            fault = self._fault
            if fault is None or fault.attempt != attempt or moved_bytes < fault.at_bytes:
                return
            self._fault = None
            for pid, number in fault.signals:
                os.kill(pid, number)


def run_live_worker(config: WorkerConfig, model: str, stall_s: float, pipe: Connection) -> None:
    """The main function of the process."""
    torch.set_num_threads(1)
    settings = LaneSettings(lanes_max=config.lanes_max, stall_s=stall_s, progress=Striking(pipe))
    worker = Worker(config, MODELS[model](), settings)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: threading.Thread(target=worker.stop).start())
    sys.exit(worker.run())
