"""What an operator asks of single GPUs, and has done with them.

Decides what is answered and refused; must never know how a GPU is emptied.
"""

from __future__ import annotations

import msgspec

from runtime.controller.books import Books
from runtime.controller.power import Power
from runtime.gateway.messages import Answer, Ask, Mode
from scheduler.cluster import GpuId

_REFUSED = "nothing is carried out: the controller's mode is advise"


def answer(question: Ask, books: Books, power: Power, mode: Mode, now_s: float) -> Answer:
    """How all GPUs are, or one of them once that was done which was asked for; `body` is None if there is none."""
    gpus, gpu_id = books.cluster.gpus, GpuId(question.gpu_id or "")
    if question.about == "gpus":
        return Answer(question=question.question, body=msgspec.json.encode([_told(name, books) for name in gpus]))
    if gpu_id not in gpus:
        return Answer(question=question.question, body=None)
    if question.about == "give back":
        power.give_back(gpu_id, now_s)
    elif mode == "advise":
        return Answer(question=question.question, body=None, refused=_REFUSED)
    else:
        power.withhold(gpu_id, now_s)
    return Answer(question=question.question, body=msgspec.json.encode(_told(gpu_id, books)))


def _told(gpu_id: GpuId, books: Books) -> dict[str, str | bool | int]:
    gpu = books.cluster.gpus[gpu_id]
    return {
        "gpu_id": gpu_id,
        "gpu_type": gpu.gpu_type,
        "status": gpu.status,
        "withheld": gpu_id in books.truth.withheld,
        "sessions": len(books.owners.of(gpu_id)),
    }
