"""How long the state of a session travels.

Decides the time of one migration from profile and links; must never know which session moves, nor contention.
"""

from __future__ import annotations

from scheduler.fleet import Fleet

GIB = 2**30
GB = 1e9


def transfer_s(fleet: Fleet, profile: str, *, same_node: bool) -> float:
    """Seconds to move one session's state between two GPUs, in a node or across nodes."""
    links = fleet.links
    bandwidth_gb_s = links.device_device_gb_s if same_node else links.node_node_gb_s
    return links.latency_ms / 1000 + fleet.profiles[profile].state_gib * GIB / (bandwidth_gb_s * GB)
