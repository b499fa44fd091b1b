"""A few processes that are kept running until somebody stops them.

Decides the order in which they begin and end, and who is begun again; must never know what they say to each other.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime.serving.child import Lives

LOOK_S = 0.1
PR_SET_PDEATHSIG = 1  # of Linux's prctl
FAILED, WRONG = 1, 2  # exit codes; whoever is told something wrong does not get better by trying again


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """`stop_s`: how long it may take to end after SIGTERM."""

    name: str
    command: tuple[str, ...]
    stop_s: float
    environment: Mapping[str, str] | None = None


class Supervisor:
    """Used from one thread. Children write to our stderr themselves."""

    def __init__(
        self, children: Sequence[Child], say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._children, self._say, self._clock = children, say, clock
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lives = {child.name: Lives(began_s=clock()) for child in children}
        self._stopping = False

    def stop(self) -> None:
        """From a signal: end all, the last one first."""
        self._stopping = True

    def run(self) -> int:
        """Until it is stopped: 0; 1 if a child could not be kept alive, 2 if what it was told is wrong."""
        try:
            for child in self._children:
                self._begin(child)
            while not self._stopping:
                for child in self._children:
                    code = self._look(child)
                    if code:
                        return code
                time.sleep(LOOK_S)
        finally:
            self._end()
        return 0

    def pid(self, name: str) -> int | None:
        process = self._processes.get(name)
        return None if process is None else process.pid

    def _begin(self, child: Child) -> None:
        """In a process group of its own: a Ctrl-C of the terminal is for us, and we tell them in turn."""
        self._processes[child.name] = subprocess.Popen(  # noqa: S603 - our own commands
            child.command,
            stdin=subprocess.DEVNULL,
            env=child.environment,
            process_group=0,
            preexec_fn=_end_with_us() if sys.platform == "linux" else None,
        )
        self._lives[child.name] = self._lives[child.name].begun(self._clock())

    def _look(self, child: Child) -> int:
        """0 as long as there is hope."""
        process, lives = self._processes.get(child.name), self._lives[child.name]
        if process is not None and process.poll() is not None:
            del self._processes[child.name]
            lives = self._lives[child.name] = lives.died(self._clock())
            if process.returncode == WRONG:
                self._say(f"{child.name}: cannot begin")
                return WRONG
            how = f"exit code {process.returncode}" if process.returncode >= 0 else f"signal {-process.returncode}"
            if lives.gave_up:
                self._say(f"{child.name}: ended ({how}) {lives.deaths} times in a row; giving up")
                return FAILED
            assert lives.again_s is not None, "it is begun again"
            self._say(f"{child.name}: ended ({how}); begun again in {lives.again_s - self._clock():.1f} s")
        if lives.again_s is not None and self._clock() >= lives.again_s:
            self._begin(child)
        return 0

    def _end(self) -> None:
        for child in reversed(self._children):
            process = self._processes.pop(child.name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(child.stop_s)
            except subprocess.TimeoutExpired:
                self._say(f"{child.name}: does not end within {child.stop_s:g} s; killed")
                process.kill()
                process.wait()


def _end_with_us() -> Callable[[], object]:
    """For a child to call before it is what it will be: if we are killed, the kernel asks it to end.

    If our thread ends first, that counts, too; whoever runs a supervisor does so until its children have ended.
    """
    libc = ctypes.CDLL(None)  # found before the fork
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
