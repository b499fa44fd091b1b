"""`epochal serve`: gateway, controller and their workers with one command.

Decides what the command takes and which processes that makes; must never know what they do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from runtime.cli.control_options import (
    DevicesOption,
    KeysOption,
    ModeOption,
    PlannerOption,
    ProviderOption,
    QuietOption,
    RayAddressOption,
    StateOption,
)
from runtime.cli.devices import demand_parts
from runtime.cli.errors import told
from runtime.cli.long_running import stop_on_signals, teller
from traces.errors import BadInputError

_EPILOG = (
    "Example: epochal serve --workers 4; then open the address that it names, or run epochal client. Everything stays "
    "on this machine, unless workers are elsewhere (--provider static or ray, with --keys). Ctrl-C and SIGTERM end all "
    "of it; what was promised is in the folder of --state, and goes on when it is served again. What happens is "
    "recorded there, too, without what clients write: see epochal replay. "
    "Exit codes: 0 stopped, 1 failed, 2 bad input."
)

SERVE_COMMAND: dict[str, Any] = {"epilog": _EPILOG}


def serve_command(
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="At most; default: as the fleet file says.")
    ] = None,
    fleet: Annotated[Path | None, typer.Option(help="Fleet file (YAML); default: workers on processors.")] = None,
    planner: PlannerOption = None,
    http: Annotated[str, typer.Option(help="Where clients come: HOST:PORT.")] = "127.0.0.1:8000",
    state: StateOption = Path("epochal-state"),
    model: Annotated[Literal["transformer", "emulated"], typer.Option(help="What makes the chunks.")] = "transformer",
    record: Annotated[
        Path | None, typer.Option(help="Where what happens is written down; default: events.jsonl in --state.")
    ] = None,
    no_record: Annotated[bool, typer.Option("--no-record", help="Write down nothing but the journal.")] = False,
    mode: ModeOption = "execute",
    admin_token_file: Annotated[
        Path | None, typer.Option(help="Holds the operator's token; default: nobody may read or approve plans.")
    ] = None,
    provider: ProviderOption = "local",
    ray_address: RayAddressOption = "auto",
    controller_address: Annotated[
        str | None, typer.Option(help="Where workers of other machines find the controller: tcp://HOST:PORT.")
    ] = None,
    gateway_address: Annotated[
        str | None, typer.Option(help="Where workers of other machines find the gateway: tcp://HOST:PORT.")
    ] = None,
    keys: KeysOption = None,
    devices: DevicesOption = "",
    store: Annotated[
        str, typer.Option(help="Where pairs of workers meet (NCCL, gloo): HOST:PORT. Default: states travel over TCP.")
    ] = "",
    quiet: QuietOption = False,
) -> None:
    """Serve sessions: a gateway, a controller and its workers, on this machine unless they are elsewhere."""
    with told():
        demand_parts()
        from runtime.controller.process.planner_file import load_planner
        from runtime.gateway.config import read_admin_token
        from runtime.provider.devices import named_devices
        from runtime.security.listening import check_listening
        from runtime.serving.plan_of_processes import Serving, children_for, chosen_fleet
        from runtime.serving.supervisor import Supervisor
        from runtime.worker.process.addresses import store_address

        if devices:
            named_devices("--devices", devices)
        if store:
            store_address("--store", store)
        if (controller_address is None) != (gateway_address is None):
            raise BadInputError.of("--controller-address and --gateway-address", "must be given together")
        for option, address in (("--controller-address", controller_address), ("--gateway-address", gateway_address)):
            if address is not None:
                check_listening(option, address, has_keys=keys is not None)
        if admin_token_file is not None:
            read_admin_token(admin_token_file)
        elif mode == "approve":
            raise BadInputError.of("--mode", "approve needs an operator: give --admin-token-file")
        if planner is not None:
            load_planner(planner)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = chosen_fleet(fleet, workers, state)
        serving = Serving(
            fleet=path,
            state=state.resolve(),
            http=http,
            model=model,
            mode=mode,
            planner=planner,
            admin_token_file=admin_token_file,
            provider=provider,
            ray_address=ray_address,
            controller=controller_address,
            gateway=gateway_address,
            keys=keys,
            devices=devices,
            store=store,
            events=None if no_record else (record or state / "events.jsonl").resolve(),
            quiet=quiet,
        )
        children = children_for(serving, os.environ)
        supervisor = Supervisor(children, teller(quiet=quiet))
        stop_on_signals(supervisor.stop)
        raise SystemExit(supervisor.run())
