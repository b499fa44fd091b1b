"""Which processes serve on one machine, and how each is called.

Decides commands and where the processes meet; must never start one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from runtime.bundled import example_files
from runtime.controller.process.config import check_fleet
from runtime.provider.command import EPOCHAL
from runtime.serving.supervisor import Child
from scheduler.fleet_file import load_fleet
from traces.errors import BadInputError
from traces.store import write_bytes

SOCKET_CHARACTERS_MAX = 100  # of the path of a socket
GATEWAY_STOP_S, STORE_STOP_S, CONTROLLER_STOP_S = 15.0, 5.0, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served, and how, as its processes are told."""

    fleet: Path
    state: Path
    http: str
    model: str
    mode: str
    planner: Path | None  # file of its settings
    admin_token_file: Path | None
    provider: str
    ray_address: str
    controller: str | None  # where workers find it; None: a socket in the state folder
    gateway: str | None
    keys: Path | None  # folder of certificates
    events: Path | None  # what is recorded
    devices: str = ""  # of workers, as the controller takes them
    store: str = ""  # where pairs of workers meet; empty: nowhere
    quiet: bool


def chosen_fleet(given: Path | None, workers: int | None, state: Path) -> Path:
    """The fleet's file; with a number of workers, one in the state folder whose only pool has so many.

    Raises `BadInputError`.
    """
    if given is None:
        with example_files("fleets/laptop.yaml") as (path,):
            text = path.read_text()
    else:
        whole = load_fleet(given)
        text = given.read_text()
        if workers is None:
            check_fleet(whole, str(given))
            return given
    data: dict[str, Any] = yaml.safe_load(text)
    if workers is not None:
        if len(data["pools"]) != 1:
            raise BadInputError.of(
                "--workers", f"the fleet has {len(data['pools'])} pools; say nodes in its file instead"
            )
        data["pools"][0] |= {"nodes": workers, "gpus_min": min(data["pools"][0].get("gpus_min", 0), workers)}
    path = state / "fleet.yaml"
    write_bytes(path, yaml.safe_dump(data, sort_keys=False).encode())
    check_fleet(load_fleet(path), str(path if given is None else given))
    return path


def children_for(serving: Serving, environment: Mapping[str, str]) -> tuple[Child, ...]:
    """The gateway first: workers come and go, and clients stay. Raises `BadInputError`."""
    state = serving.state
    sockets = {name: f"ipc://{state / f'{name}.socket'}" for name in ("workers", "chunks", "gateway")}
    longest = max(map(len, sockets.values()))
    if longest > SOCKET_CHARACTERS_MAX:
        raise BadInputError.of(
            "--state", f"{state} is too long a path for sockets: {longest} characters; at most {SOCKET_CHARACTERS_MAX}"
        )
    controller_at, gateway_at = serving.controller or sockets["workers"], serving.gateway or sockets["chunks"]
    silence = ("--quiet",) if serving.quiet else ()
    operator = () if serving.admin_token_file is None else (f"--admin-token-file={serving.admin_token_file.resolve()}",)
    gateway = (
        "gateway",
        f"--http={serving.http}",
        f"--workers={gateway_at}",
        f"--controller={sockets['gateway']}",
        *_gateway_keys(serving.keys),
        *operator,
        *silence,
    )
    worker_options = [f"--worker-option=--model={serving.model}"]
    if serving.model == "emulated":
        worker_options.append(f"--worker-option=--fleet={serving.fleet.resolve()}")
    if serving.store:
        worker_options.append(f"--worker-option=--store={serving.store}")
    controller = (
        "controller",
        f"--fleet={serving.fleet.resolve()}",
        f"--state={state}",
        f"--mode={serving.mode}",
        f"--provider={serving.provider}",
        f"--ray-address={serving.ray_address}",
        f"--workers={controller_at}",
        f"--gateways={sockets['gateway']}",
        f"--worker-gateway={gateway_at}",
        *(() if serving.keys is None else (f"--keys={serving.keys.resolve()}",)),
        "--stop-workers",
        *worker_options,
        *((f"--devices={serving.devices}",) if serving.devices else ()),
        *(() if serving.planner is None else (f"--planner={serving.planner.resolve()}",)),
        *(() if serving.events is None else (f"--record={serving.events}",)),
        *silence,
    )
    wanted = [("gateway", gateway, GATEWAY_STOP_S), ("controller", controller, CONTROLLER_STOP_S)]
    if serving.store:
        wanted.insert(1, ("store", ("store", f"--listen={serving.store}", *silence), STORE_STOP_S))
    return tuple(
        Child(name=name, command=(*EPOCHAL, *command), stop_s=stop_s, environment=environment)
        for name, command, stop_s in wanted
    )


def _gateway_keys(folder: Path | None) -> tuple[str, ...]:
    """Of a gateway beside its controller: workers trust one server key, that of the controller."""
    if folder is None:
        return ()
    own = folder.resolve()
    return (
        f"--keys={own / 'gateways' / 'gateway.key_secret'}",
        f"--controller-key={own / 'controllers' / 'controller.key'}",
        f"--listening-keys={own / 'controllers' / 'controller.key_secret'}",
        f"--worker-keys={own / 'workers'}",
    )
