"""The deployment that is simulated: four small GPUs, and bounds so low that they are met.

Decides sizes and times; must never know what goes wrong.
"""

from __future__ import annotations

from pathlib import Path

from runtime.controller.controller import ControllerSettings
from runtime.gateway.limits import Limits
from runtime.state.ranges import GRANULE_BYTES
from scheduler.fleet import Fleet
from scheduler.planner_settings import PlannerSettings, ScalingSettings

_GIB = 2**30
STATE_BYTES = 2 * GRANULE_BYTES  # of a session
DEVICE_STATES, HOST_STATES = 7, 5  # that a worker has room for
BATCH_MAX = 4  # sessions in one pass
STATE_SHARE = STATE_BYTES / _GIB  # of the fleet's states, which have a GiB

FLEET = Fleet.model_validate(
    {
        "format": "epochal.fleet/1",
        "epoch_s": 5.0,
        "batching": "grouped",
        "gpu_types": {
            "h100": {
                "memory_gib": float(DEVICE_STATES),
                "weights_gib": 0.0,
                "price_per_hour": 3.6,
                "startup_s": 3.0,
            }
        },
        "pools": [
            {
                "gpu_type": "h100",
                "nodes": 4,
                "gpus_per_node": 1,
                "gpus_min": 1,
                "host_memory_gib": float(HOST_STATES),
            }
        ],
        "links": {"device_host_gb_s": 50.0, "device_device_gb_s": 300.0, "node_node_gb_s": 35.0, "latency_ms": 8.0},
        "profiles": {"a": {"chunk_s": 1.0, "state_gib": 1.0, "latency_ms": {"h100": [60.0, 120.0, 180.0, 240.0]}}},
        "target": {"chunk_latency_ms": 250.0, "first_chunk_ms": 3000.0},
        "budget": {"moves_per_epoch": 4, "moves_out_per_gpu": 2, "moves_in_per_gpu": 2, "gib_per_epoch": 3.0},
    }
)
LEASE_S = 3.0
HEARTBEAT_S = 0.5
SETTINGS = ControllerSettings(lease_s=LEASE_S)
PLANNER = PlannerSettings(exact=False, scaling=ScalingSettings(scale_in_hold_s=5.0))
LIMITS = Limits(
    creates_max=4,
    ahead=3,
    ring_chunks_max=6,
    memory_bytes_max=40_000,
    changes_max=3,
    grace_s=2.0,
    slow_s=3.0,
    forget_s=8.0,
    create_wait_s=5.0,
)
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - where there is such a folder, journals cost no disk; each has its own in it
JOURNALS = _IN_MEMORY if _IN_MEMORY.is_dir() else None
