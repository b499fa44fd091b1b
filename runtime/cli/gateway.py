"""`epochal gateway`: one process where clients meet their sessions.

Decides what the command takes and what is told about it; must never know HTTP or what a chunk is.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli.devices import parts_are_there
from runtime.cli.errors import told
from runtime.cli.long_running import teller
from traces.errors import BadInputError

_EPILOG = (
    "Example: epochal gateway --http 127.0.0.1:8000 --workers tcp://127.0.0.1:7101 "
    "--controller tcp://127.0.0.1:7102. Ctrl-C and SIGTERM tell clients and end it. "
    "Exit codes: 0 stopped, 1 failed, 2 bad input or a library is not installed."
)

GATEWAY_COMMAND: dict[str, Any] = {"epilog": _EPILOG}

_LONGEST_NAME = 64


def gateway_command(
    controller: Annotated[str, typer.Option(help="Where the controller listens for gateways: tcp://HOST:PORT.")],
    http: Annotated[str, typer.Option(help="Where clients come: HOST:PORT.")] = "127.0.0.1:8000",
    workers: Annotated[str, typer.Option(help="Where workers come: tcp://HOST:PORT.")] = "tcp://127.0.0.1:7101",
    name: Annotated[str, typer.Option(help="Of this gateway; default: that of the host.")] = "",
    origin: Annotated[
        list[str] | None, typer.Option(help="Whose pages may connect, beside the gateway's own; may be repeated.")
    ] = None,
    admin_token_file: Annotated[
        Path | None, typer.Option(help="Holds the operator's token; default: nobody may read plans.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="Of TLS, in PEM: clients come over https.")] = None,
    certificate_key: Annotated[Path | None, typer.Option(help="Its private key, in PEM.")] = None,
    behind_proxy: Annotated[bool, typer.Option("--behind-proxy", help="A proxy in front of it speaks TLS.")] = False,
    sessions_max: Annotated[int, typer.Option(min=1, help="Sessions at once.")] = 10_000,
    clients_max: Annotated[int, typer.Option(min=1, help="Clients at once.")] = 2_000,
    ahead: Annotated[int, typer.Option(min=1, max=64, help="Chunks before a client that it has not taken.")] = 4,
    memory_mib: Annotated[int, typer.Option(min=64, help="For chunks that clients may come back for.")] = 1024,
    grace_s: Annotated[float, typer.Option(min=0.0, help="Without a client, before a session pauses.")] = 10.0,
    slow_s: Annotated[float, typer.Option(min=0.1, help="Without taking a chunk, before a client is cut.")] = 10.0,
    forget_s: Annotated[float, typer.Option(min=1.0, help="Without a client, before a session ends.")] = 3600.0,
    keys: Annotated[
        Path | None, typer.Option(help="The gateway's CURVE certificate (.key_secret), to speak with the controller.")
    ] = None,
    controller_key: Annotated[Path | None, typer.Option(help="The controller's CURVE certificate (.key).")] = None,
    listening_keys: Annotated[
        Path | None, typer.Option(help="What workers take for their server's (.key_secret): the controller's.")
    ] = None,
    worker_keys: Annotated[
        Path | None, typer.Option(help="Folder with the CURVE certificates (.key) of the workers that may connect.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing.")] = False,
) -> None:
    """Let clients create sessions and watch them, over HTTP and WebSocket."""
    with told(), parts_are_there():
        from runtime.gateway.config import (
            GatewayConfig,
            check_origin,
            http_address,
            read_admin_token,
        )
        from runtime.gateway.limits import Limits
        from runtime.gateway.process import run_gateway
        from runtime.security.certificates import client_keys, key_pair
        from runtime.security.listening import check_listening
        from runtime.worker.process.addresses import check_address

        if len(name) > _LONGEST_NAME:
            raise BadInputError.of("--name", f"has {len(name)} characters; it must have at most {_LONGEST_NAME}")
        _check_together(certificate, certificate_key)
        given = [path for path in (keys, controller_key, listening_keys, worker_keys) if path is not None]
        if len(given) not in (0, 4):
            together = "--keys, --controller-key, --listening-keys and --worker-keys"
            raise BadInputError.of(together, "must be given together")
        check_listening("--workers", workers, has_keys=bool(given))
        check_address("--controller", controller, has_keys=bool(given))
        config = GatewayConfig(
            name=name or socket.gethostname()[:_LONGEST_NAME],
            since=time.time_ns(),
            http=http_address("--http", http, is_safe=certificate is not None or behind_proxy),
            workers=workers,
            controller=controller,
            keys=client_keys(keys, controller_key) if keys is not None and controller_key is not None else None,
            listening_keys=None if listening_keys is None else key_pair(listening_keys),
            worker_keys=worker_keys,
            admin_sha256=None if admin_token_file is None else read_admin_token(admin_token_file),
            origins=frozenset(check_origin("--origin", each) for each in origin or ()),
            certificate=certificate,
            certificate_key=certificate_key,
            behind_proxy=behind_proxy,
            limits=Limits(
                sessions_max=sessions_max,
                clients_max=clients_max,
                ahead=ahead,
                memory_bytes_max=memory_mib << 20,
                grace_s=grace_s,
                slow_s=slow_s,
                forget_s=forget_s,
            ),
        )
        code = run_gateway(config, teller(quiet=quiet))
    raise SystemExit(code)


def _check_together(certificate: Path | None, key: Path | None) -> None:
    if (certificate is None) != (key is None):
        raise BadInputError.of("--certificate and --certificate-key", "must be given together")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise BadInputError.of(str(path), "must be a readable PEM file")
