"""The real command in a process of its own.

Decides how it is started from any folder, installed or not; must never know what it is asked.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
EPOCHAL = (sys.executable, "-c", "from runtime.cli.main import main; main()")


def environment(*dropped: str) -> dict[str, str]:
    """Without settings of whoever runs the tests (and others by prefix), and with this checkout's packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EPOCHAL_", *dropped))}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [kept.get("PYTHONPATH")])])}


def epochal(
    *arguments: str | Path, cwd: Path, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end; `before` runs in the new process first, and such a process writes no coverage."""
    return subprocess.run(
        [*EPOCHAL, *map(str, arguments)],
        cwd=cwd,
        env=environment() if before is None else environment("COV"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
    )
