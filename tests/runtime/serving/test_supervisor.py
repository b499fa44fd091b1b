"""Processes are begun anew when they end, up to a bound, and all end when they are asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.serving.child import DEATHS_MAX, PAUSE_S, PAUSE_S_MAX, STEADY_S, Lives
from runtime.serving.supervisor import Child, Supervisor

PATIENCE_S = 60.0
SLEEPS = "import time; time.sleep(1000)"
IGNORES = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(1000)"
)


def until(there: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def child(name: str, code: str, *arguments: str, stop_s: float = PATIENCE_S) -> Child:
    return Child(name=name, command=(sys.executable, "-c", code, *arguments), stop_s=stop_s)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_whoever_ends_is_begun_anew_and_all_end_together() -> None:
    said: list[str] = []
    supervisor = Supervisor([child("a", SLEEPS), child("b", SLEEPS)], said.append)
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(supervisor.run()))
    thread.start()
    until(lambda: supervisor.pid("b") is not None)
    a, b = supervisor.pid("a"), supervisor.pid("b")
    assert a is not None
    assert b is not None
    os.kill(a, signal.SIGKILL)
    until(lambda: supervisor.pid("a") not in (None, a))
    assert said[0].startswith("a: ended (signal 9)")
    assert supervisor.pid("b") == b
    again = supervisor.pid("a")
    assert again is not None
    supervisor.stop()
    thread.join(PATIENCE_S)
    assert ended == [0]
    assert [lives(pid) for pid in (again, b)] == [False, False]


def test_whoever_cannot_be_kept_alive_ends_all() -> None:
    said: list[str] = []
    now_s = [0.0]

    def clock() -> float:  # every look is a long time after the last
        now_s[0] += PAUSE_S_MAX
        return now_s[0]

    supervisor = Supervisor([child("a", SLEEPS), child("b", "raise SystemExit(3)")], said.append, clock)
    assert supervisor.run() == 1
    assert said[-1] == f"b: ended (exit code 3) {DEATHS_MAX} times in a row; giving up"
    assert supervisor.pid("a") is None


def test_whoever_was_told_something_wrong_is_not_begun_again() -> None:
    said: list[str] = []
    supervisor = Supervisor([child("a", SLEEPS), child("b", "raise SystemExit(2)")], said.append)
    assert supervisor.run() == 2
    assert said == ["b: cannot begin"]
    assert supervisor.pid("a") is None


def test_whoever_does_not_end_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor([child("deaf", IGNORES, str(tmp_path / "there"), stop_s=0.2)], said.append)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until((tmp_path / "there").exists)
    pid = supervisor.pid("deaf")
    assert pid is not None
    supervisor.stop()
    thread.join(PATIENCE_S)
    assert said == ["deaf: does not end within 0.2 s; killed"]
    assert not lives(pid)


def test_pauses_double_and_a_steady_life_forgives() -> None:
    life = Lives(began_s=0.0)
    pauses = []
    for _ in range(DEATHS_MAX - 1):
        life = life.died(1.0)
        assert life.again_s is not None
        pauses.append(life.again_s - 1.0)
        life = life.begun(1.0)
    assert pauses[:3] == pytest.approx([PAUSE_S, 2 * PAUSE_S, 4 * PAUSE_S])
    assert max(pauses) <= PAUSE_S_MAX
    assert life.died(1.0).gave_up
    forgiven = life.died(1.0 + STEADY_S)
    assert (forgiven.deaths, forgiven.gave_up) == (1, False)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"""
import sys
from runtime.serving.supervisor import Child, Supervisor
sleeps = "import os, sys, time; open(sys.argv[1], 'a').write(f'{{os.getpid()}} '); time.sleep(1000)"
child = Child(name="a", command=(sys.executable, "-c", sleeps, {str(pids)!r}), stop_s=1.0)
Supervisor([child], print).run()
"""
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    try:
        until(lambda: pids.exists() and pids.read_text().endswith(" "))
    finally:
        supervisor.kill()
        supervisor.wait()
    pid = int(pids.read_text())
    until(lambda: not lives(pid))
