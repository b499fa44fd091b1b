"""The memory that a program took at most.

Decides where the figure comes from; must never know what the program did.
"""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> float:
    """Of this program alone: `ru_maxrss` would begin at the size of the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this kernel does not tell VmHWM in /proc/self/status")
