"""Measured figures as a fleet file: one GPU of this kind, and what is still to be filled in.

Decides how the file reads, and says of each figure whether it was measured; must never know how it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_GIB = 2**30
_COMMENT_COLUMN = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredProfile:
    name: str
    chunk_s: float
    state_bytes: int
    latency_ms: Sequence[float]  # a batch of 1, 2, 3, ...; does not decrease


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredDevice:
    gpu_type: str  # as the fleet names it
    description: str  # of the device, the versions and how it was measured
    memory_bytes: int
    weights_bytes: int
    startup_s: float
    copy_gb_s: float
    profiles: Sequence[MeasuredProfile]


def fleet_text(device: MeasuredDevice, how: Mapping[str, str]) -> str:
    """A fleet file (`epochal.fleet/1`) with comments; `how` names what was measured, for its first lines."""
    gpu = device.gpu_type
    copies = _rounded(device.copy_gb_s)
    shortest_ms = min(profile.chunk_s for profile in device.profiles) * 1000
    lines = [
        f"# Measured by epochal profile on {device.description}.",
        *(f"# {name}: {text}" for name, text in how.items()),
        "format: epochal.fleet/1",
        "epoch_s: 5",
        "batching: grouped",
        "gpu_types:",
        f"  {gpu}:",
        f"    memory_gib: {_gib(device.memory_bytes)}",
        _said(f"    weights_gib: {_gib(device.weights_bytes)}", "measured"),
        _said("    price_per_hour: 1.00", "assumed: set your price"),
        _said(f"    startup_s: {_rounded(device.startup_s)}", "measured: loading and warming up"),
        "pools:",
        _said(f"  - {{gpu_type: {gpu}, nodes: 1, gpus_per_node: 1, gpus_min: 1}}", "assumed: set how many you have"),
        _said("links:", "to the host: measured; the rest: assumed"),
        f"  {{device_host_gb_s: {copies}, device_device_gb_s: {copies}, node_node_gb_s: 1, latency_ms: 8}}",
        f"default_profile: {device.profiles[0].name}",
        "profiles:",
    ]
    for profile in device.profiles:
        table = ", ".join(_rounded(value) for value in profile.latency_ms)
        lines += [
            f"  {profile.name}:",
            f"    chunk_s: {profile.chunk_s:g}",
            _said(f"    state_gib: {_gib(profile.state_bytes)}", f"{profile.state_bytes} bytes"),
            f"    latency_ms: {{{gpu}: [{table}]}}",
        ]
    lines += [
        "target:",
        _said(f"  chunk_latency_ms: {shortest_ms:g}", "the shortest chunk's playing time"),
        _said("  first_chunk_ms: 3000", "assumed"),
    ]
    return "\n".join(lines) + "\n"


def _said(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT_COLUMN}}  # {comment}"


def _rounded(value: float) -> str:
    """Four digits, which is more than a measurement repeats, and never an exponent."""
    return f"{max(value, 1e-4):.4g}" if value < 1e4 else f"{value:.0f}"


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / _GIB:.9f}".rstrip("0")
