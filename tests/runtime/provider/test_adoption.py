"""Workers outlive the provider that has started them: the next one finds them, and nothing else in their place."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.provider.local import LocalProvider
from runtime.provider.local_process import LocalSettings
from runtime.provider.processes import born
from runtime.provider.provider import Exited, Started
from runtime.provider.state_folder import StateFolder
from tests.e2e.command import ROOT, environment
from tests.runtime.provider.small_workers import (
    GPU,
    PATIENCE_S,
    POLITE,
    WAITS,
    Ears,
    a_provider,
    is_there,
    left_in,
    program,
    started,
    until,
)
from traces.errors import BadInputError

WAYS = pytest.mark.parametrize("by_pidfd", [True, False], ids=["pidfd", "looking"])
RECORD = "h100-0-0-0.worker"


@contextmanager
def a_killed_provider(folder: Path) -> Iterator[int]:
    """The pid of a worker whose provider is killed; the worker is none of our children."""
    command = [sys.executable, "-m", "tests.runtime.provider.provider_process", str(folder), ""]
    pid = 0
    try:
        with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                pid = int(process.stdout.readline())
                _wait(lambda: '"incarnation":23' in (folder / RECORD).read_text())
            finally:
                process.kill()
        yield pid
    finally:
        if pid and is_there(pid):
            os.kill(pid, signal.SIGKILL)


def _wait(there: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def edited(folder: Path, **fields: object) -> None:
    path = folder / RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@WAYS
def test_a_worker_whose_controller_was_killed_goes_on_and_is_adopted(tmp_path: Path, by_pidfd: bool) -> None:
    async def case(pid: int) -> None:
        async with a_provider(tmp_path, program(POLITE), by_pidfd=by_pidfd) as (provider, ears):
            adopted = await ears.hear(Started)
            assert adopted.running == provider.running[GPU]
            assert (adopted.running.pid, adopted.running.incarnation, adopted.running.adopted) == (pid, 23, True)
            provider.start(GPU)  # it is there already
            os.kill(pid, signal.SIGKILL)
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.running.incarnation, exited.asked) == (pid, 23, False)
            assert (exited.code, exited.signal, exited.reason) == (None, None, "ended: here")
            assert ears.heard == []

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


@WAYS
def test_an_adopted_worker_is_stopped_like_any_other(tmp_path: Path, by_pidfd: bool) -> None:
    async def case(pid: int) -> None:
        async with a_provider(tmp_path, program(POLITE), by_pidfd=by_pidfd) as (provider, ears):
            await ears.hear(Started)
            provider.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.asked, exited.lines) == (pid, True, ("here", "finishing"))
            assert left_in(tmp_path) == []

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


def test_a_worker_that_ended_between_two_providers_is_told_as_gone(tmp_path: Path) -> None:
    async def case(pid: int) -> None:
        async with a_provider(tmp_path, program(POLITE)) as (provider, ears):
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.running.incarnation, exited.lived_s) == (pid, 23, None)
            assert (dict(provider.running), left_in(tmp_path)) == ({}, ["h100-0-0-0.log"])

    with a_killed_provider(tmp_path) as pid:
        os.kill(pid, signal.SIGKILL)
        _wait(lambda: born(pid) is None)
        asyncio.run(case(pid))


@WAYS
def test_a_number_that_another_process_has_now_is_left_alone(tmp_path: Path, by_pidfd: bool) -> None:
    async def case(pid: int) -> None:
        birth = json.loads((tmp_path / RECORD).read_text())["birth"]
        boot, _, ticks = birth.partition("/")
        edited(tmp_path, birth=f"{boot}/{int(ticks) - 1}")
        async with a_provider(tmp_path, program(POLITE), by_pidfd=by_pidfd) as (provider, ears):
            assert (await ears.hear(Exited)).running.pid == pid
            for step in (provider.stop, provider.kill):
                step(GPU)
            await provider.stop_all()
        assert is_there(pid)
        assert (tmp_path / "h100-0-0-0.log").read_text().endswith("here\n")  # it was not signalled

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


def test_a_provider_that_was_killed_before_it_knew_the_pid_leaves_a_mark(tmp_path: Path) -> None:
    async def case(pid: int) -> None:
        edited(tmp_path, pid=None, birth="")
        async with a_provider(tmp_path, program(POLITE)) as (_, ears):
            assert (await ears.hear(Started)).running.pid == pid

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


def test_a_record_of_what_was_never_started_is_forgotten(tmp_path: Path) -> None:
    async def case(pid: int) -> None:
        edited(tmp_path, pid=None, birth="", mark="0" * 32)
        async with a_provider(tmp_path, program(POLITE)) as (_, ears):
            assert (ears.heard, left_in(tmp_path)) == ([], [])
        assert is_there(pid)

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


def test_a_worker_that_was_stopping_is_not_asked_again(tmp_path: Path) -> None:
    """The second signal would not let it finish; but the deadline counts."""

    async def case(pid: int) -> None:
        edited(tmp_path, stopping=True)
        async with a_provider(tmp_path, program(POLITE), stop_s=0.2) as (_, ears):
            exited = await ears.hear(Exited)
            assert (exited.running.pid, exited.asked, exited.lines) == (pid, True, ("here",))
            assert left_in(tmp_path) == []

    with a_killed_provider(tmp_path) as pid:
        asyncio.run(case(pid))


def test_after_a_close_the_next_provider_of_the_same_process_hears_the_exit_code(tmp_path: Path) -> None:
    async def case() -> None:
        ears = Ears()
        first = await LocalProvider.open(tmp_path, program(POLITE), ears)
        pid = await started(first, ears, tmp_path)
        await first.close()
        assert is_there(pid)
        async with a_provider(tmp_path, program(POLITE)) as (_, ears):
            assert (await ears.hear(Started)).running.pid == pid
            os.kill(pid, signal.SIGTERM)
            assert (await ears.hear(Exited)).code == 0
            assert not is_there(pid)

    asyncio.run(case())


def test_a_folder_has_one_provider_and_the_second_is_told_whose_it_is(tmp_path: Path) -> None:
    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS)) as (provider, ears):
            await started(provider, ears, tmp_path)
            with pytest.raises(BadInputError, match=rf"is held by process {os.getpid()} \(.+\): stop that one first"):
                await LocalProvider.open(tmp_path, program(WAITS), Ears())
            assert GPU in provider.running
        async with a_provider(tmp_path, program(WAITS)):
            pass

    asyncio.run(case())


def test_a_worker_holds_nothing_of_its_provider_open(tmp_path: Path) -> None:
    """Neither the lock, which the next one needs, nor a pipe that somebody reads to its end."""
    ours = os.pipe()

    async def case() -> None:
        async with a_provider(tmp_path, program(WAITS)) as (provider, ears):
            pid = await started(provider, ears, tmp_path)
            opened = sorted(os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
            log = str(tmp_path / "h100-0-0-0.log")
            assert opened == [os.devnull, log, log]

    try:
        os.set_inheritable(ours[1], True)
        asyncio.run(case())
    finally:
        for end in ours:
            os.close(end)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "must be a record of a worker"),
        (b'{"format":"epochal.worker-process/2"}', "must be a record of a worker"),
        (b"x" * 100_000, "must be a record of a worker"),
        (
            b'{"format":"epochal.worker-process/1","gpu_id":"b","worker":"b","mark":"0123456789abcdef","command":["c"]}',
            "must be named after its GPU b",
        ),
    ],
)
def test_a_file_that_is_no_record_is_told_and_the_folder_let_go(tmp_path: Path, body: bytes, expected: str) -> None:
    async def case() -> None:
        (tmp_path / "a.worker").write_bytes(body)
        with pytest.raises(BadInputError, match=expected):
            await LocalProvider.open(tmp_path, program(WAITS), Ears())
        StateFolder.open(tmp_path).close()

    asyncio.run(case())


def test_the_record_is_for_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"

    async def case() -> None:
        async with a_provider(folder, program(WAITS)) as (provider, ears):
            await started(provider, ears, folder)
            await until(lambda: '"pid":' in (folder / RECORD).read_text(), "the record")
            assert folder.stat().st_mode & 0o777 == 0o700
            assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}

    asyncio.run(case())


@pytest.mark.skipif(not Path("/bin/ps").exists(), reason="there is no /bin/ps here")
def test_without_proc_and_pidfds_a_worker_is_adopted_by_what_ps_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on other systems than Linux."""
    monkeypatch.setattr("runtime.provider.processes._PROC", tmp_path / "no-proc")
    folder = tmp_path / "state"

    async def case() -> None:
        ears = Ears()
        first = await LocalProvider.open(folder, program(POLITE), ears, LocalSettings(by_pidfd=False))
        pid = await started(first, ears, folder)
        await first.close()
        async with a_provider(folder, program(POLITE), by_pidfd=False) as (second, ears):
            assert (await ears.hear(Started)).running.pid == pid
            second.stop(GPU)
            exited = await ears.hear(Exited)
            assert (exited.code, exited.lines) == (0, ("here", "finishing"))
            assert born(pid) is None

    asyncio.run(case())
