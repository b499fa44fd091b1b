"""Processes of this machine that are held so that they cannot be taken for others: pid and time of birth together.

Decides which process is meant, whether it is still there and how it ended; must never know what it does.

Where the system has pidfds, a process is held by one, which tells its end at once, whoever its parent is. Elsewhere it
is looked at every `LOOK_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LOOK_S = 0.1
_PROC = Path("/proc")
_DEFAULT_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGXFSZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a process ended. Both are None for one whose parent is another: the system tells only parents."""

    code: int | None = None
    signal: int | None = None


def born(pid: int) -> str | None:
    """When the process of this number began, as a word to compare; None if there is none, or only a zombie."""
    found = _seen(pid)
    return None if found is None or found.is_over else found.birth


def find(mark: str) -> int | None:
    """The leader of a session that was started with this word in its environment. Only where there is a /proc."""
    wanted = mark.encode()
    for path in _PROC.glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # another user's, or gone
            pid = int(path.parent.name)
            if wanted in path.read_bytes().split(b"\0") and os.getsid(pid) == pid:
                return pid
    return None


def spawn(arguments: tuple[str, ...], environment: Mapping[str, str], output: Path) -> tuple[int, str]:
    """Start a process in a session of its own, so that no signal to us reaches it. Its pid and birth.

    What it writes is appended to `output`. Raises `OSError`.
    """
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawnp(
        arguments[0],
        arguments,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(output), appended, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, number) for number in _inherited()),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=_DEFAULT_SIGNALS,
    )
    return pid, born(pid) or ""


class HeldProcess:
    """One process, until `close`. `ended` is done when it is gone; in the thread of one event loop."""

    def __init__(self, pid: int, birth: str, pidfd: int | None) -> None:
        self.pid, self.birth, self._pidfd = pid, birth, pidfd
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Ending] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None
        if pidfd is not None:
            self._loop.add_reader(pidfd, self._look)
        else:
            self._look_again()

    @classmethod
    def of_child(cls, pid: int, birth: str, *, by_pidfd: bool = True) -> HeldProcess:
        """One that `spawn` has made: its number is nobody else's until its end was heard here."""
        return cls(pid, birth, _pidfd(pid) if by_pidfd else None)

    @classmethod
    def adopted(cls, pid: int, birth: str, *, by_pidfd: bool = True) -> HeldProcess | None:
        """None if it is gone, or another process has its number now. Of a zombie the end is heard at once."""
        pidfd = _pidfd(pid) if by_pidfd else None
        found = _seen(pid)
        if found is not None and found.birth == birth:
            return cls(pid, birth, pidfd)
        if pidfd is not None:
            os.close(pidfd)
        return None

    def send(self, number: signal.Signals) -> None:
        """A signal, unless it is gone."""
        if self.ended.done():
            return
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            elif born(self.pid) == self.birth:
                os.kill(self.pid, number)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self.ended.cancel()

    def _look(self) -> None:
        """The pidfd is readable: it has ended."""
        assert self._pidfd is not None, "a closed one is not read"
        self._loop.remove_reader(self._pidfd)
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            found = None
        if found is None:
            ending = Ending()
        elif found.si_code == os.CLD_EXITED:
            ending = Ending(code=found.si_status)
        else:
            ending = Ending(signal=found.si_status)
        if not self.ended.done():
            self.ended.set_result(ending)

    def _look_again(self) -> None:
        ending = self._looked()
        if ending is None:
            self._timer = self._loop.call_later(LOOK_S, self._look_again)
        elif not self.ended.done():
            self.ended.set_result(ending)

    def _looked(self) -> Ending | None:
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None if born(self.pid) == self.birth else Ending()
        if not pid:
            return None
        code = os.waitstatus_to_exitcode(status)
        return Ending(code=code) if code >= 0 else Ending(signal=-code)


def _inherited() -> list[int]:
    """Open files that whoever started us meant for us: a worker that held them would keep them open after us."""
    found = []
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # that of the list itself is closed
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _pidfd(pid: int) -> int | None:
    """None where there are none: another system, an old kernel, or forbidden in this container; or no such process."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


@dataclass(frozen=True, slots=True)
class _Seen:
    birth: str
    is_over: bool  # a zombie: nothing is left of it but its exit code


def _seen(pid: int) -> _Seen | None:
    if not _PROC.joinpath("self/stat").exists():
        return _seen_by_ps(pid)
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from the third on: the name before it may hold anything
    return _Seen(f"{_boot()}/{fields[19]}", fields[0] in "ZX")


def _seen_by_ps(pid: int) -> _Seen | None:
    """To the second, which is what there is without a /proc."""
    done = subprocess.run(  # noqa: S603
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)],
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    state, _, began = done.stdout.strip().partition(" ")
    return _Seen(began.strip(), state.startswith("Z")) if began else None


@cache
def _boot() -> str:
    """Which run of the system this is: numbers begin anew with the next."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
