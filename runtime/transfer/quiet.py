"""The environment of a worker's process, in which NCCL does not turn one death into two.

Decides which settings there are; must never import torch, which reads them once.
"""

from __future__ import annotations

from collections.abc import Mapping


def quiet_environment(*, loopback: bool = True) -> Mapping[str, str]:
    """What a worker's process must have in its environment before torch is imported."""
    quiet = {
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "0",
        "TORCH_NCCL_ENABLE_MONITORING": "0",
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "0",
        "NCCL_MAX_CTAS": "4",  # a transfer leaves the multiprocessors to the chunks
    }
    return quiet | ({"NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"} if loopback else {})
