"""`epochal controller`: one process that decides where sessions are.

Decides what the command takes and what is told about it; must never know a session.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

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
from runtime.cli.devices import parts_are_there
from runtime.cli.errors import FAILED, told
from runtime.cli.long_running import stop_on_signals, teller
from traces.errors import BadInputError

_EPILOG = (
    "Example: epochal controller --fleet fleet.yaml --state epochal-state. Ctrl-C and SIGTERM end it; its workers go "
    "on for a lease, and the next controller over the same folder takes them up. "
    "Exit codes: 0 stopped, 1 failed (or another controller has taken over), 2 bad input."
)

CONTROLLER_COMMAND: dict[str, Any] = {"epilog": _EPILOG}


def controller_command(
    fleet: Annotated[Path, typer.Option(help="Fleet file (YAML), each GPU a node of its own.")],
    state: StateOption = Path("epochal-state"),
    workers: Annotated[str, typer.Option(help="Where workers come: tcp://HOST:PORT.")] = "tcp://127.0.0.1:7100",
    gateways: Annotated[str, typer.Option(help="Where the gateway comes: tcp://HOST:PORT.")] = "tcp://127.0.0.1:7102",
    provider: ProviderOption = "local",
    ray_address: RayAddressOption = "auto",
    worker_controller: Annotated[
        str, typer.Option(help="Where workers find this controller, if not as in --workers: tcp://HOST:PORT.")
    ] = "",
    worker_gateway: Annotated[
        str, typer.Option(help="Where workers find the gateway: tcp://HOST:PORT.")
    ] = "tcp://127.0.0.1:7101",
    worker_option: Annotated[
        list[str] | None, typer.Option(help="For each worker, as --model=emulated; repeatable.")
    ] = None,
    devices: DevicesOption = "",
    planner: PlannerOption = None,
    mode: ModeOption = "execute",
    keys: KeysOption = None,
    stop_workers: Annotated[
        bool, typer.Option("--stop-workers", help="When it is stopped, stop the workers that it has started, too.")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="Write down what happens here (JSON lines), for epochal replay.")
    ] = None,
    record_mib: Annotated[int, typer.Option(min=1, max=1 << 20, help="Of that file, at most.")] = 1024,
    quiet: QuietOption = False,
) -> None:
    """Decide where sessions are: place, suspend and migrate them, and start and stop workers as plans want it."""
    with told(), parts_are_there():
        import zmq

        from runtime.controller.controller import ControllerSettings
        from runtime.controller.process.config import ControllerConfig, check_fleet
        from runtime.controller.process.fleet_workers import FleetWorkers
        from runtime.controller.process.planner_file import load_planner
        from runtime.controller.process.providing import Provided
        from runtime.controller.process.run import ControllerLoop
        from runtime.journal.journal import JournalError
        from runtime.provider.devices import devices_here, named_devices
        from runtime.recording.recording import Recorded
        from scheduler.fleet_file import load_fleet
        from scheduler.planner_settings import PlannerSettings

        stopped = threading.Event()  # a signal that comes early still stops the workers that are to be stopped
        stop_on_signals(stopped.set)
        loaded = load_fleet(fleet)
        check_fleet(loaded, str(fleet))
        planning = PlannerSettings() if planner is None else load_planner(planner)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = ControllerConfig(
            fleet=loaded,
            journal=state / "journal.sqlite",
            workers=workers,
            gateways=gateways,
            keys=keys,
            settings=ControllerSettings(mode=mode, starts_workers=provider != "static"),
            planner=planning,
        )
        recording = None
        if record is not None:
            recording = Recorded(record, loaded, config.planner, bytes_max=record_mib << 20)
        started = FleetWorkers(
            fleet=loaded,
            provider=provider,
            folder=state / "workers",
            controller=worker_controller or workers,
            gateway=worker_gateway,
            options=tuple(worker_option or ()),
            keys=keys,
            ray_address=ray_address,
            devices=named_devices("--devices", devices) if devices else devices_here(os.environ),
        )
        providing = Provided(started.thread(lambda: None), started.gpus, stops=stop_workers)
        try:
            loop = ControllerLoop(config, providing, recording=recording, say=teller(quiet=quiet))
        except (JournalError, zmq.ZMQError) as error:
            providing.close()
            raise SystemExit(_failed(str(error))) from None
        except BadInputError:
            providing.close()
            raise
        stop_on_signals(loop.stop)
        if stopped.is_set():
            loop.stop()
        try:
            loop.run()
        except JournalError as error:
            raise SystemExit(_failed(str(error))) from None


def _failed(reason: str) -> int:
    print(reason, file=sys.stderr)
    return FAILED
