"""`epochal keys`: certificates with which controller, gateway and workers know each other.

Decides what the command takes, and what is told about where each file belongs; must never know how keys are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from runtime.cli.devices import parts_are_there
from runtime.cli.errors import told
from runtime.cli.output import FormatOption, print_columns, print_json, print_rows
from traces.errors import BadInputError

if TYPE_CHECKING:
    from runtime.security.certificates import Certificate

_EPILOG = (
    "Example: epochal keys keys --fleet fleet.yaml. Then: epochal keys keys --add spare, epochal keys keys --remove "
    "spare, epochal keys keys --list. Nothing is overwritten. "
    "Exit codes: 0 done, 1 failed, 2 bad input or pyzmq is not installed."
)

_Added = Literal["worker", "gateway", "controller"]

KEYS_COMMAND: dict[str, Any] = {"epilog": _EPILOG, "no_args_is_help": True}


def keys_command(
    folder: Annotated[Path, typer.Argument(help="Of the certificates; made if no option says otherwise.")],
    workers: Annotated[
        int | None, typer.Option(min=0, max=4000, help="Certificates for so many workers. Default: 1.")
    ] = None,
    fleet: Annotated[
        Path | None, typer.Option(help="Fleet file (YAML): certificates for the workers of its GPUs, by their names.")
    ] = None,
    add: Annotated[str, typer.Option(metavar="NAME", help="Make one more.")] = "",
    role: Annotated[_Added, typer.Option(help="Of the one that is added.")] = "worker",
    remove: Annotated[str, typer.Option(metavar="NAME", help="Delete its files here: it is let in no more.")] = "",
    list_only: Annotated[bool, typer.Option("--list", help="Show what is there.")] = False,
    output_format: FormatOption = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not say which file belongs where.")] = False,
) -> None:
    """Make the certificates with which controller, gateway and workers know each other; add, list, remove."""
    with told(), parts_are_there():
        from runtime.security import certificates

        if sum((workers is not None, fleet is not None, bool(add), bool(remove), list_only)) > 1:
            raise BadInputError.of("--workers, --fleet, --add, --remove and --list", "cannot be given together")
        if add:
            shown: Sequence[Certificate] = [certificates.add(folder, role, add)]
        elif remove:
            shown = [certificates.remove(folder, remove)]
        else:
            if not list_only:
                certificates.make(folder, _names(fleet) if fleet is not None else 1 if workers is None else workers)
            shown = certificates.certificates(folder)
        hints = _removed(folder, shown[0]) if remove else _where(folder, shown)
        if output_format == "json":
            print_json({"folder": str(folder), "certificates": [_row(one) for one in shown], "to_do": hints})
            return
        _print(shown, removed=bool(remove))
        if not (quiet or list_only):
            print()
            print_rows(hints)


def _names(fleet: Path) -> list[str]:
    """Of the workers: those of the GPUs."""
    from scheduler.cluster_state import all_off
    from scheduler.fleet_file import load_fleet

    return list(all_off(load_fleet(fleet)).gpus)


def _row(one: Certificate) -> dict[str, str | None]:
    return {
        "role": one.role,
        "name": one.name,
        "fingerprint": one.fingerprint,
        "public_file": str(one.public_file),
        "secret_file": None if one.secret_file is None else str(one.secret_file),
    }


def _print(shown: Sequence[Certificate], *, removed: bool) -> None:
    print_columns(
        ("role", "fingerprint of the public key", "secret"),
        {one.name: (one.role, one.fingerprint, _secret_place(one, removed=removed)) for one in shown},
    )


def _secret_place(one: Certificate, *, removed: bool) -> str:
    if removed:
        return "removed"
    return "elsewhere" if one.secret_file is None else "here"


def _where(folder: Path, shown: Sequence[Certificate]) -> dict[str, str]:
    """Whom each file is for. A worker of this version trusts one server key: gateways listen with the controller's."""
    server, secret = folder / "controllers/controller.key", folder / "controllers/controller.key_secret"
    rows = {}
    for one in shown:
        own = one.secret_file
        if one.role == "controller":
            rows["To the controller"] = f"{own}, {folder}/workers/*.key, {folder}/gateways/*.key"
        elif one.role == "gateway":
            rows[f"To {one.name}"] = f"{own}, {server}, {folder}/workers/*.key, and {secret} to listen for workers with"
        elif len(shown) > 1:
            rows["To each worker"] = f"{folder}/workers/NAME.key_secret (its own alone), {server}"
        else:
            rows[f"To {one.name}"] = f"{own}, {server}"
            rows["To the controller and gateways"] = str(one.public_file)
    if any(one.role == "worker" for one in shown):
        rows["A worker is started with"] = "--keys NAME.key_secret --server-key controller.key"
    return rows | {"Then": "delete each .key_secret here once it is where it belongs; copy over ssh, never by mail"}


def _removed(folder: Path, one: Certificate) -> dict[str, str]:
    place = one.public_file.relative_to(folder)
    return {"Now": f"delete {place} wherever it was copied to: it is let in until then; nothing has to be restarted"}
