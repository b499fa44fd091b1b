"""Links shared by transfers: each of n has the n-th part of a link, and is as fast as the slowest of its links.

Decides when the bytes of a transfer have been sent; must never know what they are or who waits for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from scheduler.cluster import Gpu, GpuId, NodeId
from scheduler.fleet import Fleet
from scheduler.plan import Move
from scheduler.simulation.instants import FAR_US, SECOND_US

Link = tuple[str, str]  # (what it is, GPU or node id)


def links_of(move: Move, gpus: Mapping[GpuId, Gpu], state_node: NodeId | None) -> tuple[Link, ...]:
    """What a transfer uses. `state_node`: whose host memory has the state of a session that resumes."""
    end = move.target if move.target is not None else move.source
    assert end is not None, "a move has an end on a GPU"
    own_node = gpus[end].node
    if move.kind == "offload":
        return (("host", end),)
    if move.kind == "migrate":
        assert move.source is not None, "a migration has a source"
        source_node = gpus[move.source].node
        if source_node == own_node:
            return (("device", move.source), ("device", end))
        return (("network", source_node), ("network", own_node))
    if state_node is None or state_node == own_node:
        return (("host", end),)
    return (("host", end), ("network", state_node), ("network", own_node))


@dataclass(slots=True, kw_only=True)
class Sending:
    """Bytes under way; it changes as others come and go."""

    number: int  # of its transfer
    links: tuple[Link, ...]
    bytes_left: int  # at `since_us`
    since_us: int
    rate: int = 0  # bytes per second since then
    end_us: int = FAR_US


class Links:
    """All links of a fleet, and who sends over them."""

    def __init__(self, fleet: Fleet) -> None:
        links = fleet.links
        self._bandwidth = {
            "host": round(links.device_host_gb_s * 1e9),
            "device": round(links.device_device_gb_s * 1e9),
            "network": round(links.node_node_gb_s * 1e9),
        }
        self._users: dict[Link, dict[int, Sending]] = {}
        self._changed: dict[Link, None] = {}

    def begin(self, sending: Sending) -> None:
        for link in sending.links:
            self._users.setdefault(link, {})[sending.number] = sending
            self._changed[link] = None

    def end(self, sending: Sending) -> None:
        for link in sending.links:
            users = self._users[link]
            del users[sending.number]
            if not users:
                del self._users[link]
            self._changed[link] = None

    def settle(self, now_us: int) -> Iterator[Sending]:
        """After everything that happens at an instant: those whose rate has changed, and so has their end."""
        touched = {n: sending for link in self._changed for n, sending in self._users.get(link, {}).items()}
        self._changed.clear()
        for sending in touched.values():
            rate = max(1, min(self._bandwidth[link[0]] // len(self._users[link]) for link in sending.links))
            if rate == sending.rate:
                continue
            sending.bytes_left -= sending.rate * (now_us - sending.since_us) // SECOND_US
            sending.since_us, sending.rate = now_us, rate
            sending.end_us = now_us + -(-sending.bytes_left * SECOND_US // rate)
            yield sending
