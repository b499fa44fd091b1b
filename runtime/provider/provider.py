"""What a controller asks of whatever starts and stops its workers, and what it hears from it.

Decides the words between the two; must never know a process, a machine or a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scheduler.cluster import GpuId


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A worker's process that is there, as far as the provider knows."""

    gpu_id: GpuId
    worker: str  # the name that it says in its messages
    pid: int
    incarnation: int | None  # None until somebody has noted it
    adopted: bool  # it was there before this provider was


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A process is there. It serves nobody yet: that is what its own `Hello` says."""

    running: Running


@dataclass(frozen=True, slots=True, kw_only=True)
class Exited:
    """A process is gone, and its memory with it."""

    running: Running
    asked: bool  # `stop` or `kill` was called for it
    code: int | None  # that it has left with; None: ended by a signal, or it is not known
    signal: int | None
    lived_s: float | None  # None: it ended while no provider was there
    lines: tuple[str, ...]  # the last ones that it has written
    log: Path | None  # all that is kept of them; None: nothing is

    @property
    def reason(self) -> str:
        """For people and for the journal: one line."""
        if self.signal is not None:
            how = f"ended by signal {self.signal}"
        else:
            how = "ended" if self.code is None else f"exit code {self.code}"
        last = next((line for line in reversed(self.lines) if line.strip()), "")
        return f"{how}: {last.strip()}" if last and not self.asked else how


@dataclass(frozen=True, slots=True, kw_only=True)
class NotStarted:
    """A worker that is wanted is not there. It is tried again at `again_s`, unless `stop` or `kill` is called."""

    gpu_id: GpuId
    reason: str
    again_s: float  # of the provider's clock
    gave_up: bool  # the next try is after a long rest: somebody should look


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A process was killed and is still there: its memory is not free. `Exited` follows if it ever goes."""

    running: Running
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForOperator:
    """What somebody has to do by hand, because this provider cannot."""

    gpu_id: GpuId
    text: str


Heard = Started | Exited | NotStarted | Stuck | ForOperator
Tell = Callable[[Heard], None]  # in the thread of the event loop; never from within `start`, `stop` or `kill`


class Provider(Protocol):
    """Starts and stops workers, each known by the id of its GPU. Used from the thread of one event loop.

    Nothing here waits for a process: what came of it is heard. All of it may be said again without harm. A worker that
    exits after its incarnation was noted is told and not replaced: that is the controller's to decide.
    """

    @property
    def exit_is_seen(self) -> bool:
        """Whether `Exited` is told as soon as a process is gone; otherwise only silence tells."""
        ...

    @property
    def running(self) -> Mapping[GpuId, Running]:
        """Whose processes are there."""
        ...

    def start(self, gpu_id: GpuId) -> None:
        """A worker is wanted there. One that is just stopping is followed by a new one.

        Raises `BadInputError` for a GPU of which there can be none here.
        """
        ...

    def stop(self, gpu_id: GpuId) -> None:
        """None is wanted any more; it may finish the chunks in progress, in bounded time."""
        ...

    def kill(self, gpu_id: GpuId) -> None:
        """It is to be gone now, whatever it does. `Exited` confirms it."""
        ...

    def note_incarnation(self, gpu_id: GpuId, incarnation: int) -> None:
        """The worker has said hello: its start has succeeded."""
        ...

    async def stop_all(self) -> None:
        """Ask all to end, and wait until they have, if that can be seen."""
        ...

    async def close(self) -> None:
        """Let go of all workers; they go on."""
        ...
