"""`epochal worker`: one process that computes the chunks of sessions on one device.

Decides what the command takes and what is told about it; must never know how a chunk is made or where it goes.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from runtime.cli.devices import chosen_device, parts_are_there
from runtime.cli.errors import told
from runtime.cli.long_running import teller
from traces.errors import BadInputError

if TYPE_CHECKING:
    from runtime.worker.process.addresses import CurveKeys

_EPILOG = (
    "Example: epochal worker --controller tcp://127.0.0.1:7100 --gateway tcp://127.0.0.1:7101 "
    "--store 127.0.0.1:7103. Ctrl-C and SIGTERM finish the chunks in progress. "
    "Exit codes: 0 stopped, 1 failed, 2 bad input or torch is not installed."
)

WORKER_COMMAND: dict[str, Any] = {"epilog": _EPILOG}

_MIB = 1 << 20
_LONGEST_NAME = 64


def worker_command(
    controller: Annotated[str, typer.Option(help="Where the controller listens: tcp://HOST:PORT.")],
    gateway: Annotated[str, typer.Option(help="Where chunks go: tcp://HOST:PORT.")],
    store: Annotated[str, typer.Option(help="Where pairs of workers meet: HOST:PORT. Default: TCP only.")] = "",
    states_host: Annotated[
        str, typer.Option(help="Where workers hand states over: an address of this machine. Not encrypted.")
    ] = "127.0.0.1",
    name: Annotated[str, typer.Option(help="Of this worker; default: host, device and process.")] = "",
    model: Annotated[Literal["transformer", "emulated"], typer.Option(help="What makes the chunks.")] = "transformer",
    weights: Annotated[Path | None, typer.Option(help="Of the transformer; default: those bundled.")] = None,
    fleet: Annotated[Path | None, typer.Option(help="Whose latencies and states are emulated (YAML).")] = None,
    gpu_type: Annotated[str, typer.Option(help="Of that fleet; default: its first.")] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; default: cuda if there is one.")] = "",
    device_memory_mib: Annotated[
        int, typer.Option(min=1, help="That the worker may use on the device, the ChunkModel included.")
    ] = 1024,
    host_memory_mib: Annotated[int, typer.Option(min=1, help="For suspended states and chunks on their way.")] = 1024,
    workspace_mib: Annotated[
        int | None, typer.Option(min=0, help="Of the device's, for the ChunkModel; default: measured.")
    ] = None,
    coalesce_max: Annotated[int, typer.Option(min=1, max=1024, help="Sessions in one pass.")] = 8,
    sessions_max: Annotated[int, typer.Option(min=1, max=1024, help="Sessions, suspended ones included.")] = 64,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of a pass.")] = 1,
    lease_s: Annotated[float, typer.Option(min=0.1, help="Without a controller, before sessions freeze.")] = 10.0,
    drain_s: Annotated[float, typer.Option(min=0.0, help="For chunks in progress, when it is stopped.")] = 10.0,
    keys: Annotated[Path | None, typer.Option(help="This worker's CURVE certificate (.key_secret).")] = None,
    server_key: Annotated[Path | None, typer.Option(help="CURVE certificate (.key) of controller and gateway.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False,
) -> None:
    """Compute the chunks of sessions on one device, as a controller says."""
    with told(), parts_are_there():
        from runtime.transfer.quiet import quiet_environment
        from runtime.worker.process.addresses import check_address, check_states_host, store_address

        _check_name(name)
        curve = _keys(keys, server_key)
        check_address("--controller", controller, has_keys=curve is not None)
        check_address("--gateway", gateway, has_keys=curve is not None)
        check_states_host("--states-host", states_host, has_keys=curve is not None)
        where = store_address("--store", store) if store else None
        os.environ.update(quiet_environment())
        import torch

        from runtime.encode.kinds import kinds_here
        from runtime.worker.process.config import WorkerConfig
        from runtime.worker.process.models import Wanted
        from runtime.worker.process.run import run_worker

        kinds_here()  # or a missing library would be noticed by the first session that wants to be encoded
        chosen = chosen_device(device)
        torch.set_num_threads(threads)
        config = WorkerConfig(
            name=name or f"{socket.gethostname()[:32]}-{chosen}-{os.getpid()}",
            incarnation=time.time_ns(),
            controller=controller,
            gateway=gateway,
            device=str(chosen),
            device_bytes=device_memory_mib * _MIB,
            host_bytes=host_memory_mib * _MIB,
            store=where,
            keys=curve,
            states_host=states_host,
            coalesce_max=coalesce_max,
            sessions_max=sessions_max,
            lease_s=lease_s,
            drain_s=drain_s,
        )
        wanted = Wanted(model=model, device=chosen, weights=weights, fleet=fleet, gpu_type=gpu_type)
        workspace_bytes = None if workspace_mib is None else workspace_mib * _MIB
        code = run_worker(config, wanted, workspace_bytes, teller(quiet=quiet))
    raise SystemExit(code)


def _check_name(name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise BadInputError.of("--name", f"has {len(name)} characters; it must have at most {_LONGEST_NAME}")


def _keys(own: Path | None, server: Path | None) -> CurveKeys | None:
    from runtime.security.certificates import client_keys

    if own is None and server is None:
        return None
    if own is None or server is None:
        raise BadInputError.of("--keys and --server-key", "must be given together")
    return client_keys(own, server)
