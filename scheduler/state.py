"""The state a rolling window starts from: GPUs already on, sessions already placed.

Decides what a valid state file is (`epochal.state/1`, JSON); must never know how it came about.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scheduler.fleet import Fleet
from scheduler.lined_yaml import read_utf8
from scheduler.validation import nearest, problems_of
from traces.errors import BadInputError, Finding


class GpuOn(BaseModel):
    """A GPU that is paid for since `on_s`; usable from `on_s` + its type's start-up."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    gpu_id: str
    gpu_type: str
    node: str  # "<pool index>/<node index>"
    on_s: Annotated[float, Field(le=0, allow_inf_nan=False)]  # a multiple of epoch_s, on the new trace's clock


class SessionPlaced(BaseModel):
    """A session that is active at 0, and where it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    session_id: str
    gpu_id: str


class FleetState(BaseModel):
    """What holds at time 0 of the trace: a session placed here is active at 0 and starts where it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    format: Literal["epochal.state/1"]
    gpus: list[GpuOn]
    sessions: list[SessionPlaced] = []


def load_state(path: Path | str, fleet: Fleet) -> FleetState:
    """Read a state file and hold it against the fleet; raises `BadInputError` with every mistake."""
    path = Path(path)
    data = read_json(path)
    try:
        state = FleetState.model_validate(data)
    except ValidationError as error:
        messages = [problem.message for problem in problems_of(error, FleetState)]
        if not isinstance(data, dict):
            messages = ["must be an object with format, gpus and sessions"]
    else:
        messages = [*_wrong_gpus(state, fleet), *_wrong_nodes(state, fleet), *_wrong_sessions(state)]
        if not messages:
            return state
    raise BadInputError([Finding(source=str(path), message=message) for message in messages])


def read_json(path: Path) -> Any:
    """The data of a JSON file; raises `BadInputError` with the line where it is none."""
    try:
        return json.loads(read_utf8(path))
    except json.JSONDecodeError as error:
        raise BadInputError.of(str(path), f"must be JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise BadInputError.of(str(path), "is nested too deeply; it must be a flat object") from None


def _wrong_gpus(state: FleetState, fleet: Fleet) -> Iterator[str]:
    epoch_us = round(fleet.epoch_s * 1e6)
    seen: dict[str, int] = {}
    for index, gpu in enumerate(state.gpus):
        if gpu.gpu_id in seen:
            yield f'gpus[{index}].gpu_id="{gpu.gpu_id}" must be unique; gpus[{seen[gpu.gpu_id]}] has it too'
        seen.setdefault(gpu.gpu_id, index)
        if gpu.gpu_type not in fleet.gpu_types:
            known = nearest(gpu.gpu_type, fleet.gpu_types)
            yield f'gpus[{index}].gpu_type="{gpu.gpu_type}" must be a GPU type of the fleet; {known}'
        if round(gpu.on_s * 1e6) % epoch_us:
            yield f"gpus[{index}].on_s={gpu.on_s:g} must be a multiple of epoch_s={fleet.epoch_s:g}"


def _wrong_nodes(state: FleetState, fleet: Fleet) -> Iterator[str]:
    pools = {f"{p}/{i}": pool for p, pool in enumerate(fleet.pools) for i in range(pool.nodes)}
    on = Counter(gpu.node for gpu in state.gpus)
    for index, gpu in enumerate(state.gpus):
        pool = pools.get(gpu.node)
        if pool is None:
            yield f'gpus[{index}].node="{gpu.node}" must be "<pool index>/<node index>" of the fleet\'s pools'
        elif gpu.gpu_type in fleet.gpu_types and gpu.gpu_type != pool.gpu_type:
            yield f'gpus[{index}].gpu_type="{gpu.gpu_type}" must be {pool.gpu_type}, the type of node {gpu.node}'
    for node, count in on.items():
        if node in pools and count > pools[node].gpus_per_node:
            yield f"gpus: {count} GPUs on node {node} must be at most {pools[node].gpus_per_node}, its gpus_per_node"


def _wrong_sessions(state: FleetState) -> Iterator[str]:
    known = dict.fromkeys(gpu.gpu_id for gpu in state.gpus)
    seen: dict[str, int] = {}
    for index, placed in enumerate(state.sessions):
        name = placed.session_id
        if name in seen:
            yield f'sessions[{index}].session_id="{name}" must be unique; sessions[{seen[name]}] has it too'
        seen.setdefault(name, index)
        if placed.gpu_id not in known:
            hint = nearest(placed.gpu_id, known)
            yield f'sessions[{index}].gpu_id="{placed.gpu_id}" must be a gpu_id of gpus; {hint}'
