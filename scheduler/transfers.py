"""How long the state of a session travels.

Decides the time of one migration from profile and links; must never know which session moves, nor contention.
"""

from __future__ import annotations

from scheduler.fleet import Fleet
from scheduler.plan import Move

GIB = 2**30
GB = 1e9


def transfer_s(fleet: Fleet, profile: str, *, same_node: bool) -> float:
    """Seconds to move one session's state between two GPUs, in a node or across nodes."""
    links = fleet.links
    bandwidth_gb_s = links.device_device_gb_s if same_node else links.node_node_gb_s
    return links.latency_ms / 1000 + fleet.profiles[profile].state_gib * GIB / (bandwidth_gb_s * GB)


def move_s(fleet: Fleet, move: Move) -> float:
    """Seconds that a move takes alone on its links; what goes to or from a host is as fast as the slowest of them."""
    if move.kind == "place":
        return 0.0
    links = fleet.links
    across = move.source_node != move.target_node
    if move.kind == "migrate":
        bandwidth_gb_s = links.node_node_gb_s if across else links.device_device_gb_s
    else:
        bandwidth_gb_s = min(links.device_host_gb_s, links.node_node_gb_s) if across else links.device_host_gb_s
    return links.latency_ms / 1000 + move.state_bytes / (bandwidth_gb_s * GB)
