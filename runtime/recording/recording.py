"""Recording as the controller's loop has it.

Decides nothing; must never know how a line looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Protocol

from runtime.controller.controller import Happening
from runtime.controller.step import Step
from runtime.journal.truth import Truth
from runtime.recording.recorder import Recorder
from runtime.recording.sink import BYTES_MAX, Sink
from scheduler.fleet import Fleet
from scheduler.planner_settings import PlannerSettings


class Recording(Protocol):
    """Whoever writes down what the loop hears and decides. It hears only what has taken effect."""

    def begun(self, truth: Truth, step: Step, now_s: float, /) -> None: ...

    def heard(self, happenings: Sequence[Happening], steps: Sequence[Step], now_s: float, /) -> None: ...

    def news(self) -> list[str]:
        """For people."""
        ...

    def close(self, now_s: float, /, *, stopped: bool) -> None:
        """`stopped`: the controller was asked to end; otherwise the next one goes on with the same run."""
        ...


class NotRecorded:
    """Nothing is written down."""

    def begun(self, _truth: Truth, _step: Step, _now_s: float, /) -> None:
        """Nobody wants to know."""

    def heard(self, _happenings: Sequence[Happening], _steps: Sequence[Step], _now_s: float, /) -> None:
        """Nobody wants to know."""

    def news(self) -> list[str]:
        return []

    def close(self, _now_s: float, /, *, stopped: bool) -> None:
        """There is nothing to close."""


class Recorded:
    """In a file."""

    def __init__(
        self,
        path: Path,
        fleet: Fleet,
        planner: PlannerSettings,
        *,
        bytes_max: int = BYTES_MAX,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises `BadInputError` where the file cannot be written."""
        self._fleet, self._planner, self._wall_clock = fleet, planner, wall_clock
        self._sink = Sink(path, bytes_max=bytes_max)
        self._recorder: Recorder | None = None

    def begun(self, truth: Truth, step: Step, now_s: float) -> None:
        self._recorder = Recorder(self._fleet, truth, now_s)
        began = self._recorder.began(self._planner, _version(), self._wall_clock())
        self._sink.put([began, *self._recorder.begun(step, now_s)])

    def heard(self, happenings: Sequence[Happening], steps: Sequence[Step], now_s: float) -> None:
        assert self._recorder is not None, "it has begun"
        for happening, step in zip(happenings, steps, strict=True):
            self._sink.put(self._recorder.heard(happening, step, now_s))

    def news(self) -> list[str]:
        return self._sink.news()

    def close(self, now_s: float, *, stopped: bool) -> None:
        if stopped and self._recorder is not None:
            self._sink.put(self._recorder.ended(now_s))
        self._sink.close()


def _version() -> str:
    try:
        return version("epochal")
    except PackageNotFoundError:
        return "unknown, run from a checkout"
