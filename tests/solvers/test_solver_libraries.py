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
