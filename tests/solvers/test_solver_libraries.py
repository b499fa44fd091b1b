"""HiGHS and OR-Tools live in one process, whichever comes first."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HIGHS = "import highspy; h = highspy.Highs(); h.setOptionValue('output_flag', False); h.run()"
_CP_SAT = "from ortools.sat.python import cp_model; cp_model.CpSolver().solve(cp_model.CpModel())"


@pytest.mark.parametrize("order", [(_HIGHS, _CP_SAT), (_CP_SAT, _HIGHS)], ids=["highs first", "cp-sat first"])
def test_both_solver_libraries_work_in_one_process_and_say_nothing(order: tuple[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", "\n".join(order)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("solve", ["placement", "offline"])
def test_a_solve_leaves_the_handler_of_interrupts_in_place(solve: str) -> None:
    """CP-SAT by itself catches SIGINT and leaves the default action behind, which ends the process."""
    asked = {
        "placement": "from runtime.solve_child import warm_up; warm_up()",
        "offline": "from runtime.api import epochal_plan; from tests.builders import a_fleet, a_moving_trace; "
        "epochal_plan(a_moving_trace(), a_fleet(), solver='exact', deadline_s=5)",
    }
    lines = (
        "import os, signal",
        "signal.signal(signal.SIGINT, lambda *_: print('mine', flush=True))",
        asked[solve],
        "os.kill(os.getpid(), signal.SIGINT)",
        "print('alive')",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\nalive\n", "")
