"""What `epochal serve` and `epochal controller` are both told.

Decides names and help of the options that they share; must never know what either does with one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

StateOption = Annotated[Path, typer.Option(help="Folder of the journal and of what runs here.")]
ModeOption = Annotated[
    Literal["execute", "approve", "advise"],
    typer.Option(help="What becomes of plans: carried out, only once an operator has approved, or only shown."),
]
PlannerOption = Annotated[
    Path | None, typer.Option(help="Settings of the planner (YAML); default: its own for all of them.")
]
ProviderOption = Annotated[
    Literal["local", "static", "ray"],
    typer.Option(help="Who starts workers: this machine, somebody else (they join by themselves), or a Ray cluster."),
]
RayAddressOption = Annotated[str, typer.Option(help="Of the cluster, for --provider ray: HOST:PORT, or auto.")]
DevicesOption = Annotated[
    str, typer.Option(help="Of workers that are started here, in turn, as cuda:0,cuda:1; default: all there are.")
]
KeysOption = Annotated[
    Path | None, typer.Option(help="Folder of CURVE certificates, as epochal keys makes it, if others may connect.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Say nothing.")]
