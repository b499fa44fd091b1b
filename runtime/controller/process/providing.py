"""A provider as the controller's loop has it: GPUs are switched on and off, and exits are heard.

Decides what an exit means for the controller; must never know how a worker is started.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from runtime.controller.controller import Available, Exited, Unavailable
from runtime.controller.step import Switch
from runtime.provider.provider import Exited as ProcessExited
from runtime.provider.provider import ForOperator, NotStarted, Started, Stuck
from runtime.provider.provider_thread import ProviderThread
from scheduler.cluster import GpuId

Gone = Exited | Available | Unavailable
STRANGERS_MAX = 64  # that are told


class Providing(Protocol):
    """Whoever starts and stops workers, as the loop needs it."""

    def begin(self, workers: Mapping[str, int], /) -> list[Gone]:
        """What has become of those that are written down, by incarnation."""
        ...

    def switch(self, switch: Switch) -> None: ...

    def said_hello(self, worker: str, incarnation: int) -> None: ...

    def happened(self, workers: Mapping[str, int], /) -> list[Gone]: ...

    def news(self) -> list[str]:
        """For people."""
        ...

    def end(self) -> None:
        """The controller was asked to stop, and so may be its workers."""
        ...

    def close(self) -> None:
        """Let go; workers go on."""
        ...


class Provided:
    """By a provider that has a thread of its own."""

    def __init__(self, thread: ProviderThread, gpus: Collection[str], *, stops: bool = False) -> None:
        """`gpus`: the names of all workers. `stops`: when the controller is asked to stop, they are, too."""
        self._thread, self._gpus, self._stops = thread, gpus, stops
        self._news: list[str] = []
        self._strangers: set[str] = set()

    def begin(self, workers: Mapping[str, int]) -> list[Gone]:
        """Who exited while nobody was there to write it down."""
        if not self._thread.exit_is_seen:
            return []
        running = {each.worker for each in self._thread.running.values()}
        gone = [(name, incarnation) for name, incarnation in workers.items() if name not in running]
        return [
            each
            for name, incarnation in gone
            for each in _gone(name, incarnation, "it exited while no controller was there")
        ]

    def news(self) -> list[str]:
        found, self._news = self._news, []
        return found

    def switch(self, switch: Switch) -> None:
        gpu_id = GpuId(switch.worker)
        if switch.at_once:
            self._news.append(f"{gpu_id}: was silent for too long and is killed; its sessions begin anew")
            self._thread.kill(gpu_id)
        else:
            (self._thread.start if switch.on else self._thread.stop)(gpu_id)

    def said_hello(self, worker: str, incarnation: int) -> None:
        if worker in self._gpus:
            self._thread.note_incarnation(GpuId(worker), incarnation)
        elif worker not in self._strangers and len(self._strangers) < STRANGERS_MAX:
            self._strangers.add(worker)
            known = ", ".join(sorted(self._gpus)[:8])
            self._news.append(f"{worker!r} has joined and gets no sessions: no GPU of the fleet has its name ({known})")

    def happened(self, workers: Mapping[str, int]) -> list[Gone]:
        """A worker that has exited may be started again at once: the provider keeps a crash loop from spinning."""
        found: list[Gone] = []
        for heard in self._thread.heard():
            match heard:
                case ProcessExited(running=running, asked=asked):
                    gone = _gone(running.worker, workers.get(running.worker), heard.reason)
                    # Who was to end and has said so is not the one that may be starting in its place by now.
                    found += gone[1:] if asked and running.worker not in workers else gone
                    self._news.append(f"{running.worker}: {heard.reason}")
                case NotStarted():
                    if heard.gave_up:
                        found.append(Unavailable(worker=heard.gpu_id))
                    self._news.append(f"{heard.gpu_id}: {heard.reason}")
                case Stuck():
                    self._news.append(f"{heard.running.worker}: was killed and is still there")
                case ForOperator():
                    self._news.append(f"{heard.gpu_id}: {heard.text}")
                case Started():
                    pass
        return found

    def end(self) -> None:
        if self._stops:
            self._thread.stop_all()

    def close(self) -> None:
        self._thread.close()


def _gone(worker: str, incarnation: int | None, reason: str) -> list[Gone]:
    return [Exited(worker=worker, incarnation=incarnation, reason=reason), Available(worker=worker)]
