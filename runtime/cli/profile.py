"""`epochal profile`: measure this device, and write what was found as a fleet file.

Decides what the command takes, shows and writes; must never know how a chunk is made.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runtime.chunk_models.measured_fleet import MeasuredDevice, MeasuredProfile, fleet_text
from runtime.cli.devices import chosen_device, parts_are_there
from runtime.cli.errors import told
from runtime.cli.output import OutputFormat, figure, print_columns, print_json, print_rows
from runtime.cli.progress import shown_rounds
from scheduler.fleet_file import load_fleet
from traces.errors import BadInputError
from traces.store import write_bytes

if TYPE_CHECKING:
    import torch

    from runtime.chunk_models.chunk_model import ChunkProfile
    from runtime.chunk_models.measure import Latency

_EPILOG = (
    "Example: epochal profile -o mine.yaml. Then: epochal plan TRACE --fleet mine.yaml. "
    "Exit codes: 0 done, 1 failed, 2 bad input or torch is not installed, 130 interrupted."
)

PROFILE_COMMAND: dict[str, Any] = {"epilog": _EPILOG}


def profile_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="Fleet file to write (YAML).")] = Path(
        "measured-fleet.yaml"
    ),
    weights: Annotated[Path | None, typer.Option(help="Of the video transformer; default: those bundled.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; default: cuda if there is one.")] = "",
    gpu_type: Annotated[str, typer.Option(help="What the fleet calls this device; default: its name.")] = "",
    batch_max: Annotated[int, typer.Option(min=1, max=1024, help="Largest batch to measure.")] = 8,
    repeats: Annotated[int, typer.Option(min=1, help="Chunks per batch; their median counts.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads; more than one only on an idle machine.")] = 1,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="Of the result on stdout.")] = "table",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure how long chunks take on this device, per profile and batch, and write a fleet file."""
    with told(), parts_are_there():
        from runtime.chunk_models.measure import Plan, copy_gb_s, measure
        from runtime.chunk_models.transformer.chunks import TransformerChunkModel
        from runtime.chunk_models.transformer.weights import load, load_bundled

        if not output.parent.is_dir():
            raise BadInputError.of("-o", f"{output.parent} must be a folder; make it first")
        chosen = chosen_device(device)
        begun_s = time.perf_counter()
        network = load_bundled() if weights is None else load(weights)
        with _threads(threads):
            model = TransformerChunkModel(network, chosen)
            model.warm_up()
            startup_s = time.perf_counter() - begun_s
            plan = Plan(batch_max=batch_max, repeats=repeats)
            rounds = plan.chunks_per_profile * len(model.profiles)
            with shown_rounds(rounds, quiet=quiet) as heard:
                found = measure(model, chosen, plan, time.perf_counter, heard)
            copies = copy_gb_s(chosen, time.perf_counter)
        measured = MeasuredDevice(
            gpu_type=gpu_type or _type_name(chosen),
            description=_description(chosen),
            memory_bytes=_memory_bytes(chosen),
            weights_bytes=sum(p.numel() * p.element_size() for p in network.parameters()),
            startup_s=startup_s,
            copy_gb_s=copies,
            profiles=_profiles(model.profiles, found),
        )
        how = f"{threads} processor thread(s), one chunk of warm-up, median of {repeats} chunks per batch"
        write_bytes(output, fleet_text(measured, {"how": how, "revision": model.revision}).encode())
        load_fleet(output)
        _show(measured, found, output, output_format)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _type_name(device: torch.device) -> str:
    """A name that needs no quotes: nvidia-h100-80gb-hbm3, cpu."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _description(device: torch.device) -> str:
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"a processor ({platform.machine()})"
    return f"{name} with torch {torch.__version__}"


def _memory_bytes(device: torch.device) -> int:
    """What states may fill: the device's memory; half of the host's where the host is the device."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _profiles(profiles: Mapping[str, ChunkProfile], found: list[Latency]) -> list[MeasuredProfile]:
    from runtime.chunk_models.measure import table_ms

    return [
        MeasuredProfile(
            name=one.name, chunk_s=one.chunk_s, state_bytes=one.state_bytes, latency_ms=table_ms(found, one.name)
        )
        for one in profiles.values()
    ]


def _show(measured: MeasuredDevice, found: list[Latency], output: Path, output_format: OutputFormat) -> None:
    if output_format == "json":
        print_json(
            {
                "fleet": str(output),
                "gpu_type": measured.gpu_type,
                "device": measured.description,
                "startup_s": measured.startup_s,
                "copy_gb_s": measured.copy_gb_s,
                "profiles": {one.name: {"state_bytes": one.state_bytes} for one in measured.profiles},
                "latencies": [
                    {
                        "profile": one.profile,
                        "batch": one.batch,
                        "median_ms": one.median_ms,
                        "fastest_ms": one.fastest_ms,
                        "slowest_ms": one.slowest_ms,
                    }
                    for one in found
                ],
            }
        )
        return
    print_columns(
        ("median ms", "fastest", "slowest", "in real time"),
        {
            f"{one.profile}, batch of {one.batch}": (
                f"{one.median_ms:.1f}",
                f"{one.fastest_ms:.1f}",
                f"{one.slowest_ms:.1f}",
                "yes" if one.median_ms <= _chunk_ms(measured, one.profile) else "no",
            )
            for one in found
        },
    )
    sizes = ", ".join(f"{figure(one.state_bytes / 2**20)} MiB a session of {one.name}" for one in measured.profiles)
    print_rows(
        {
            "device": measured.description,
            "states": sizes,
            "copies": f"{measured.copy_gb_s:.1f} GB/s to the host",
            "fleet": f"{output}, with one {measured.gpu_type}; set price, pools and links in it",
        }
    )


def _chunk_ms(measured: MeasuredDevice, profile: str) -> float:
    return next(one.chunk_s * 1000 for one in measured.profiles if one.name == profile)
