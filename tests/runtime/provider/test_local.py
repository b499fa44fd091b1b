"""Processes that a local provider starts, stops and kills, and those that end by themselves: real ones."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest

from runtime.provider.command import Launch
from runtime.provider.processes import HeldProcess
from runtime.provider.provider import Exited, NotStarted, Provider, Started, Stuck
from runtime.provider.restarts import RestartRule
from scheduler.cluster import GpuId
from tests.runtime.provider.small_workers import (
    DEAF,
    DIES,
    GPU,
    POLITE,
    WAITS,
    a_provider,
    is_there,
    left_in,
    program,
    started,
    until,
)

WAYS = pytest.mark.parametrize("by_pidfd", [True, False], ids=["pidfd", "looking"])


@WAYS
def test_it_runs_in_a_session_of_its_own_and_stops_when_it_is_asked(tmp_path: Path, by_pidfd: bool) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(POLITE), by_pidfd=by_pidfd) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            assert os.getsid(pid) == pid
            assert provider.running[GPU].pid == pid
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.code, exited.signal, exited.log) == (True, 0, None, None)
            assert exited.lines == ("here", "finishing")
            assert exited.reason == "exit code 0"
            assert not is_there(pid)
            assert (dict(provider.running), left_in(tmp_path), ears.heard) == ({}, [], [])
        assert list(tmp_path.iterdir()) == []

    asyncio.run(case())


@WAYS
def test_a_kill_from_outside_is_heard_with_its_signal(tmp_path: Path, by_pidfd: bool) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS), by_pidfd=by_pidfd) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            provider.note_incarnation(GPU, 17)
            os.kill(pid, signal.SIGKILL)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.code, exited.signal) == (False, None, signal.SIGKILL)
            assert (exited.running.incarnation, exited.reason) == (17, "ended by signal 9: here")
            assert exited.log is not None
            assert exited.log.read_text().endswith("here\n")
            assert not is_there(pid)
            await asyncio.sleep(0)
            assert dict(provider.running) == {}  # whoever had begun to serve is not replaced unasked
            provider.start(GPU)
            assert (await ears.hear(Started)).running.pid != pid

    asyncio.run(case())


def test_a_kill_is_confirmed_even_of_a_stopped_process(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(DEAF)) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            os.kill(pid, signal.SIGSTOP)
            provider.kill(GPU)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.signal) == (True, signal.SIGKILL)
            assert not is_there(pid)
            assert left_in(tmp_path) == []

    asyncio.run(case())


def test_whoever_ignores_sigterm_is_killed_after_the_deadline(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(DEAF), stop_s=0.2) as (provider, ears):
            await started(provider, ears, tmp_path)
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.asked, exited.signal) == (True, signal.SIGKILL)

    asyncio.run(case())


def test_while_it_stops_a_second_stop_sends_nothing(tmp_path: Path) -> None:
    """A worker that is asked twice does not finish its chunks."""
    counts = "import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
    waits = "print('here', flush=True)\nwhile True: time.sleep(0.01)"

    async def case() -> None:
        async with a_provider(tmp_path, program(counts + waits)) as (provider, ears):
            await started(provider, ears, tmp_path)
            provider.stop(GPU)
            log = next(tmp_path.glob("*.log"))
            await until(lambda: "asked" in log.read_text(), "the first signal")
            provider.stop(GPU)
            provider.start(GPU)
            provider.stop(GPU)
            provider.kill(GPU)
            assert (await ears.hear(Exited)).lines == ("here", "asked")

    asyncio.run(case())


def test_a_start_while_it_stops_is_followed_by_a_new_process(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(POLITE)) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            provider.stop(GPU)
            provider.start(GPU)
            assert (await ears.hear(Exited)).running.pid == pid
            assert (await ears.hear(Started)).running.pid != pid
            assert len(left_in(tmp_path)) == 2  # its record and its log

    asyncio.run(case())


def test_a_stop_before_it_is_there_has_its_effect(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS)) as (provider, ears):
            provider.start(GPU)
            await asyncio.sleep(0)  # it is being started, in another thread
            provider.stop(GPU)
            await provider.stop_all()
            assert [type(one) for one in ears.heard] in ([], [Started, Exited])
            assert left_in(tmp_path) == []

    asyncio.run(case())


def test_nobody_waits_while_a_process_is_being_started(tmp_path: Path) -> None:
    may_go_on = threading.Event()

    def slow(gpu_id: GpuId) -> Launch:
        assert may_go_on.wait(60)
        return program(WAITS)(gpu_id)

    async def case() -> None:
        async with a_provider(tmp_path, slow) as (provider, ears):
            provider.start(GPU)
            await asyncio.sleep(0.05)
            provider.start(GPU)
            provider.note_incarnation(GPU, 1)
            assert (ears.heard, dict(provider.running)) == ([], {})
            may_go_on.set()
            await ears.hear(Started)

    asyncio.run(case())


def test_what_dies_at_once_says_why_and_is_given_up_for_a_while(tmp_path: Path) -> None:
    async def case() -> None:
        rule = RestartRule(delay_s=0.01, delay_s_max=0.02, deaths_max=3, rest_s=0.5)
        async with a_provider(tmp_path, program(DIES), restarts=rule) as (provider, ears):
            provider.start(GPU)
            gave_up = await ears.hear(NotStarted, lambda one: one.gave_up)
            told = [one for one in ears.heard if isinstance(one, NotStarted)]
            assert [(type(one)) for one in ears.heard[:3]] == [Started, Exited, NotStarted]
            assert told[0].reason == "exit code 3: a device is missing; death 1 in a row, tried again at once"
            assert told[1].reason.startswith("exit code 3: a device is missing; death 2 in a row, tried again ")
            assert len(told) == 2
            assert "gave up after 3 deaths in a row, tried again " in gave_up.reason
            exits = [one for one in ears.heard if isinstance(one, Exited)]
            assert [(one.code, one.lines) for one in exits] == [(3, ("a device is missing",))] * 3
            ears.heard.clear()
            await ears.hear(NotStarted, lambda one: "death 1 in a row" in one.reason)  # after the rest
            provider.stop(GPU)
            await provider.stop_all()
            ears.heard.clear()

    asyncio.run(case())


def test_a_stop_ends_the_tries(tmp_path: Path) -> None:
    async def case() -> None:
        rule = RestartRule(delay_s=50.0, delay_s_max=50.0, rest_s=60.0)
        async with a_provider(tmp_path, program(DIES), restarts=rule) as (provider, ears):
            provider.start(GPU)
            await ears.hear(NotStarted, lambda one: "death 2 in a row, tried again in 50 s" in one.reason)
            provider.stop(GPU)
            await asyncio.wait_for(provider.stop_all(), 20.0)

    asyncio.run(case())


def test_a_start_during_the_rest_is_answered_with_when_it_ends(tmp_path: Path) -> None:
    async def case() -> None:
        rule = RestartRule(delay_s=50.0, delay_s_max=50.0, rest_s=60.0)
        async with a_provider(tmp_path, program(WAITS), restarts=rule) as (provider, ears):
            for incarnation in (1, 2):
                pid = await started(provider, ears, tmp_path)
                provider.note_incarnation(GPU, incarnation)
                os.kill(pid, signal.SIGKILL)
                await ears.hear(Exited)
            assert ears.heard == []
            provider.start(GPU)
            told = await ears.hear(NotStarted)
            assert (told.gave_up, told.reason.partition(";")[0]) == (False, "ended by signal 9: here")

    asyncio.run(case())


@pytest.mark.parametrize("missing", ["/absent/python", "no-such-command"])
def test_a_command_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    def launch(gpu_id: GpuId) -> Launch:
        return Launch(worker=gpu_id, program=(missing,), arguments=(), environment={})

    async def case() -> None:
        async with a_provider(tmp_path, launch) as (provider, ears):
            provider.start(GPU)
            told = await ears.hear(NotStarted)
            assert told.reason.startswith(f"it cannot be started: [Errno 2] No such file or directory: '{missing}'")
            await ears.hear(NotStarted, lambda one: one.gave_up)
            assert left_in(tmp_path) == []

    asyncio.run(case())


def test_a_process_that_does_not_go_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a device within the system: here, no signal gets through."""

    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS), kill_s=0.05) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            with monkeypatch.context() as patch:
                patch.setattr(HeldProcess, "send", lambda *_: None)
                provider.kill(GPU)
                assert (await ears.hear(Stuck)).running.pid == pid
                assert GPU in provider.running
            os.kill(pid, signal.SIGKILL)
            assert (await ears.hear(Exited)).asked

    asyncio.run(case())


def test_what_it_writes_is_bounded(tmp_path: Path) -> None:
    text = "import time\nfor at in range(20000): print('x' * 99)\nprint('here', flush=True)\ntime.sleep(600)"

    async def case() -> None:
        async with a_provider(tmp_path, program(text), log_bytes_max=4096, log_look_s=0.01) as (provider, ears):
            provider.start(GPU)
            await ears.hear(Started)
            log, past = tmp_path / "h100-0-0-0.log", tmp_path / "h100-0-0-0.log.1"
            await until(past.exists, "the first time that it is too long")
            await until(lambda: (past.read_text() + log.read_text()).endswith("here\n"), "the end in what is kept")
            await until(lambda: log.stat().st_size <= 4096, "the bound")
            assert past.stat().st_size == 4096
            provider.kill(GPU)
            exited = await ears.hear(Exited)
            assert (len(exited.lines), exited.lines[-1]) == (20, "here")
            assert left_in(tmp_path) == []

    asyncio.run(case())


def test_many_gpus_are_kept_apart(tmp_path: Path) -> None:
    async def case() -> None:
        gpus = [GpuId(name) for name in ("a", "a/b", "../c", ".hidden", "é" * 20)]
        async with a_provider(tmp_path / "state", program(POLITE)) as (provider, ears):
            for gpu_id in gpus:
                provider.start(gpu_id)
            pids = {(await ears.hear(Started, lambda one: one.running.gpu_id == gpu)).running.pid for gpu in gpus}  # noqa: B023
            assert len(pids) == len(gpus)
            assert [path.name for path in tmp_path.iterdir()] == ["state"]
            provider.kill(gpus[1])
            assert (await ears.hear(Exited)).running.gpu_id == "a/b"
            assert set(provider.running) == {*gpus} - {gpus[1]}

    asyncio.run(case())


def test_it_is_a_provider(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS)) as (provider, _):
            as_seen: Provider = provider
            assert as_seen.exit_is_seen
            for step in (as_seen.stop, as_seen.kill):
                step(GPU)  # nothing is there
            as_seen.note_incarnation(GPU, 1)

    asyncio.run(case())
