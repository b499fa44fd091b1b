"""A provider for whoever has no event loop: the same words, from another thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from runtime.provider.command import WorkerCommand
from runtime.provider.local import LocalProvider
from runtime.provider.provider import Exited, ForOperator, Heard, NotStarted, Provider, Started, Tell
from runtime.provider.provider_thread import ProviderThread
from runtime.provider.static import StaticProvider
from scheduler.cluster import GpuId
from tests.runtime.provider.small_workers import GPU, PATIENCE_S, POLITE, WAITS, is_there, left_in, log_text, program
from traces.errors import BadInputError

Kind = TypeVar("Kind", bound=Heard)


@contextmanager
def a_thread(folder: Path, text: str = POLITE) -> Iterator[tuple[ProviderThread, threading.Event]]:
    woken = threading.Event()
    provider = ProviderThread(lambda tell: LocalProvider.open(folder, program(text), tell), woken.set)
    try:
        yield provider, woken
    finally:
        provider.stop_all()
        provider.close()


def hear(provider: ProviderThread, woken: threading.Event, kind: type[Kind]) -> Kind:
    while True:
        for one in provider.heard():
            if isinstance(one, kind):
                return one
        assert woken.wait(PATIENCE_S), f"no {kind.__name__} was told"
        woken.clear()


def test_words_go_in_and_what_is_heard_comes_out(tmp_path: Path) -> None:
    with a_thread(tmp_path) as (provider, woken):
        assert (provider.exit_is_seen, provider.heard(), dict(provider.running)) == (True, [], {})
        provider.start(GPU)
        pid = hear(provider, woken, Started).running.pid
        provider.note_incarnation(GPU, 4)
        assert provider.running[GPU].incarnation == 4
        os.kill(pid, signal.SIGKILL)
        exited = hear(provider, woken, Exited)
        assert (exited.running.incarnation, exited.signal) == (4, signal.SIGKILL)
        provider.start(GPU)
        hear(provider, woken, Started)
        provider.kill(GPU)
        assert hear(provider, woken, Exited).asked


def test_a_close_leaves_workers_and_the_next_adopts_them(tmp_path: Path) -> None:
    woken = threading.Event()
    first = ProviderThread(lambda tell: LocalProvider.open(tmp_path, program(POLITE), tell), woken.set)
    first.start(GPU)
    pid = hear(first, woken, Started).running.pid
    end_s = time.monotonic() + PATIENCE_S
    while not log_text(tmp_path).endswith("here\n"):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    first.close()
    with a_thread(tmp_path) as (second, _):
        (started,) = second.heard()  # before it was there for us
        assert isinstance(started, Started)
        assert (started.running.pid, started.running.adopted) == (pid, True)
        second.stop(GPU)
        second.stop_all()
        assert not is_there(pid)
        assert left_in(tmp_path) == []


def test_what_cannot_be_opened_is_raised_here(tmp_path: Path) -> None:
    with a_thread(tmp_path, WAITS), pytest.raises(BadInputError, match="is held by process"):
        ProviderThread(lambda tell: LocalProvider.open(tmp_path, program(WAITS), tell))


def test_a_gpu_that_can_have_no_worker_is_told() -> None:
    async def make(tell: Tell) -> Provider:
        return StaticProvider(WorkerCommand(options=("--controller", "c"), inherited={}), tell)

    woken = threading.Event()
    provider = ProviderThread(make, woken.set)
    try:
        provider.start(GpuId("x" * 65))
        told = hear(provider, woken, NotStarted)
        assert (told.gave_up, told.reason) == (True, f"fleet: GPU {'x' * 65!r} must have a name of 1 to 64 characters")
        provider.start(GPU)
        assert "epochal worker" in hear(provider, woken, ForOperator).text
        assert not provider.exit_is_seen
    finally:
        provider.stop_all()
        provider.close()
