"""Nothing is compiled inside a deadline."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import solvers.placement

_NOT_COMPILED = """
from runtime.solve_child import warm_up
from tests.runtime.test_warm_up import kernels

warm_up()
print(sorted(name for name, kernel in kernels().items() if not kernel.signatures))
"""


def kernels() -> dict[str, object]:
    """Functions of the placement solvers that are machine code once they were called from Python."""
    found = {}
    for module in pkgutil.iter_modules(solvers.placement.__path__):
        loaded = importlib.import_module(f"solvers.placement.{module.name}")
        for name, value in inspect.getmembers(loaded):
            options = getattr(value, "targetoptions", {})
            own = getattr(value, "__module__", None) == loaded.__name__
            if own and options.get("nogil") and not options.get("no_cpython_wrapper"):
                found[name] = value
    return found


def test_the_warm_up_compiles_every_kernel_of_placement() -> None:
    assert {"best_patterns", "exchange", "fillings", "fit", "descend", "place_waiting"} <= set(kernels())
    done = subprocess.run([sys.executable, "-c", _NOT_COMPILED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
