"""What runs on a node of a Ray cluster: an actor that has one worker's process, and a task that sees to its end.

Decides that neither outlives the other; must never know who wants the worker. The process is a child of its own, so
that it is the same command as on one machine, ends as it should when it is asked to, and leaves a code. The system
kills it when the thread ends that has begun it, however the actor's process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass

from runtime.provider.command import child_environment
from runtime.provider.log_file import LINE_CHARACTERS_MAX, LINES_MAX, plain
from runtime.provider.processes import LOOK_S, Ending, born

TOLD_S = 2.0  # after its end, for whoever waits to be told
_READ_S = 1.0  # after its end, for its last lines
# Becomes the worker, which is killed once its parent's thread is gone: PR_SET_PDEATHSIG. It may be gone already.
_BOUND = (
    "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "os.getppid() == int(sys.argv[1]) or os._exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One worker's process as its actor tells it."""

    worker: str
    pid: int
    birth: str
    node: str
    incarnation: int | None
    stopping: bool


class WorkerActor:
    """`arguments` are for the Python of this node. It ends with its process."""

    def __init__(self, worker: str, arguments: tuple[str, ...], threads: int, node: str = "") -> None:
        """Raises `OSError`."""
        self._worker, self._node = worker, node or _this_node()
        self._incarnation: int | None = None
        self._stopping = False
        self._lines: deque[str] = deque(maxlen=LINES_MAX)
        self._ending: Ending | None = None
        self._begun = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._birth = ""
        command = [sys.executable, "-S", "-E", "-c", _BOUND, str(os.getpid()), sys.executable, *arguments]
        threading.Thread(target=self._accompany, args=(command, threads), name="worker", daemon=True).start()
        self._begun.wait()
        if self._process is None:
            raise OSError(f"{sys.executable} cannot be run here")

    async def seen(self) -> Seen:
        process = self._held()
        return Seen(
            worker=self._worker,
            pid=process.pid,
            birth=self._birth,
            node=self._node,
            incarnation=self._incarnation,
            stopping=self._stopping,
        )

    async def note_incarnation(self, incarnation: int) -> None:
        self._incarnation = incarnation

    async def ask_to_end(self) -> None:
        """Once."""
        if not self._stopping:
            self._stopping = True
            self._held().terminate()

    async def kill(self) -> None:
        self._stopping = True
        self._held().kill()

    async def ended(self) -> tuple[Ending, tuple[str, ...]]:
        """Once it is gone, with its last lines."""
        while self._ending is None:
            await asyncio.sleep(LOOK_S)
        return self._ending, tuple(self._lines)

    def _held(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was begun before anybody could ask"
        return self._process

    def _accompany(self, command: list[str], threads: int) -> None:
        """In the thread whose end the process would not outlive."""
        try:
            process = subprocess.Popen(  # noqa: S603 - as the controller has said
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=child_environment(os.environ, threads),
                start_new_session=True,
            )
            self._process, self._birth = process, born(process.pid) or ""
        finally:
            self._begun.set()
        reader = threading.Thread(target=self._read, args=(process,), name="lines", daemon=True)
        reader.start()
        code = process.wait()
        reader.join(_READ_S)
        self._ending = Ending(code=code) if code >= 0 else Ending(signal=-code)
        time.sleep(TOLD_S)
        os._exit(0)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None, "it writes into a pipe"
        while line := process.stdout.readline(LINE_CHARACTERS_MAX):
            self._lines.append(plain(line.decode(errors="replace").rstrip("\n")))


def see_to_the_end(pid: int, birth: str) -> None:
    """Of a process of this node: returns once it is gone. Nothing happens to another that has its number now."""
    while born(pid) == birth:
        with contextlib.suppress(ProcessLookupError):
            held = os.pidfd_open(pid)
            try:
                if born(pid) == birth:
                    signal.pidfd_send_signal(held, signal.SIGKILL)
            finally:
                os.close(held)
        time.sleep(LOOK_S)


def _this_node() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
