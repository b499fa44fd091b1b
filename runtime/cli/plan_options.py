"""What the options of `epochal plan` must be, beyond what their types say.

Decides which combinations and values are refused, and how; must never plan anything.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from scheduler.fleet import Fleet
from scheduler.offline_plan import Minimize
from scheduler.validation import nearest
from traces.errors import BadInputError, Finding

_ENDINGS = (".gz", ".csv", ".jsonl", ".parquet")


def default_folder(trace: Path) -> Path:
    """`evening.csv.gz` is planned into `evening.plan`."""
    name = trace.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return Path(f"{name}.plan")


def check_options(*, minimize: Minimize, gpus: str | None, frontier: bool, deadline_s: float, gap: float) -> None:
    """Refuse what needs no file to be seen as wrong; raises `BadInputError` with everything at once."""
    findings = []
    if minimize == "latency" and gpus is None:
        findings.append(Finding(source="--gpus", message="is missing; --minimize latency must have it, as TYPE=N"))
    if minimize == "cost" and gpus is not None:
        findings.append(Finding(source="--gpus", message="must come with --minimize latency; cost chooses the GPUs"))
    if minimize == "latency" and frontier:
        findings.append(Finding(source="--frontier", message="must come with --minimize cost; leave one of them out"))
    if not (math.isfinite(deadline_s) and deadline_s > 0):
        findings.append(Finding(source="--deadline-s", message=f"{deadline_s:g} must be a finite number > 0"))
    if not 0 <= gap < 1:
        findings.append(Finding(source="--gap", message=f"{gap:g} must be >= 0 and < 1, as in 0.001 for 0.1 %"))
    if findings:
        raise BadInputError(findings)


def parse_gpus(text: str, fleet: Fleet) -> dict[str, int]:
    """`h100=4,b200=2` as counts; raises `BadInputError` for unknown types and counts that the pools do not hold."""
    pool_sizes: Counter[str] = Counter()
    for pool in fleet.pools:
        pool_sizes[pool.gpu_type] += pool.nodes * pool.gpus_per_node
    counts: dict[str, int] = {}
    findings = []
    for item in text.split(","):
        name, _, number = (part.strip() for part in item.partition("="))
        if not number.isdecimal() or int(number) < 1:
            message = f'"{item.strip()}" must be TYPE=N with a whole number N >= 1'
        elif name not in fleet.gpu_types:
            message = f'"{name}" must be a GPU type of the fleet; {nearest(name, fleet.gpu_types)}'
        elif name in counts:
            message = f"{name} is given twice; keep one"
        elif int(number) > pool_sizes[name]:
            message = f"{name}={number} must be <= {pool_sizes[name]}, the size of its pools"
        else:
            counts[name] = int(number)
            continue
        findings.append(Finding(source="--gpus", message=message))
    if findings:
        raise BadInputError(findings)
    return counts
