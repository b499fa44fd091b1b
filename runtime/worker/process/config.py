"""What one worker process is made of.

Decides the bounds and their usual values; must never know how they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.encode.limits import Limits
from runtime.state.copying import COPIES_MAX
from runtime.transfer.attempt import LANES_MAX
from runtime.transfer.outgoing import PrecopyRule
from runtime.transfer.pairs import RENDEZVOUS_S
from runtime.worker.process.addresses import CurveKeys
from runtime.worker.process.lease import LEASE_S

HEARTBEAT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """One incarnation. Incarnations of a name grow."""

    name: str
    incarnation: int
    controller: str  # addresses as ZeroMQ has them
    gateway: str
    device: str = "cpu"
    device_bytes: int  # of states on the device
    host_bytes: int  # of states in host memory
    store: tuple[str, int] | None = None  # where pairs meet; None: no pairs
    rendezvous_s: float = RENDEZVOUS_S  # until both have come there
    keys: CurveKeys | None = None
    states_host: str = "127.0.0.1"  # where states come over TCP: whoever brings one is known, nothing is encrypted
    coalesce_max: int = 8  # sessions in one pass
    sessions_max: int = 256
    lanes_max: int = LANES_MAX
    copies_max: int = COPIES_MAX
    lease_s: float = LEASE_S
    heartbeat_s: float = HEARTBEAT_S
    drain_s: float = 10.0  # for chunks in progress and what waits to be sent, when the worker is asked to stop
    rule: PrecopyRule | None = None
    encode: Limits | None = None
