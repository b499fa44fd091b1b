"""What is paid and what is moved, according to what controllers write down and tell of.

Decides whether each GPU-second is counted once and whether migrations keep within their budget; must never know why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.world.fleet import FLEET
from runtime.journal.records import Prepared, Record
from scheduler import events
from scheduler.cluster import Gpu, GpuId
from scheduler.events import Event

_ON = ("starting", "ready", "draining")
_EXACT_S = 1e-6


class Account:
    """Counts GPU-seconds in two ways: from events, and as time goes by."""

    def __init__(self) -> None:
        self._on_since_s: dict[GpuId, float] = {}
        self._from_events_s = self._by_time_s = 0.0
        self._moves: Counter[str] = Counter()  # migrations that began in this epoch
        self._moved_gib = 0.0
        self._attempt = 0

    def begin(self, now_s: float) -> None:
        """Another controller goes on, with a picture of its own, and has not migrated anybody."""
        for gpu_id in list(self._on_since_s):
            self._off(gpu_id, now_s)
        self._epoch_begins()

    def told(self, event: Event, now_s: float) -> None:
        match event:
            case events.GpuStarting(gpu_id=gpu_id) | events.GpuReady(gpu_id=gpu_id):
                self._on_since_s.setdefault(gpu_id, now_s)
            case events.GpuStopped(gpu_id=gpu_id) | events.GpuLost(gpu_id=gpu_id):
                self._off(gpu_id, now_s)
            case events.EpochEnded():
                self._epoch_begins()
            case events.MoveStarted(kind="migrate", source=source, target=target):
                self._migrates(str(source), str(target))
            case _:
                pass

    def wrote(self, record: Record) -> None:
        if isinstance(record, Prepared):
            assert record.attempt > self._attempt, f"attempt {record.attempt} after attempt {self._attempt}"
            self._attempt = record.attempt

    def goes_by(self, seconds: float, gpus: Iterable[Gpu]) -> None:
        """With these GPUs in the picture."""
        self._by_time_s += seconds * sum(gpu.status in _ON for gpu in gpus)

    def check(self, now_s: float) -> None:
        """Every second of a GPU that is on is counted once."""
        running_s = sum(now_s - since_s for since_s in self._on_since_s.values())
        apart_s = abs(self._from_events_s + running_s - self._by_time_s)
        assert apart_s < _EXACT_S * (1 + self._by_time_s), f"{apart_s:.3f} GPU-seconds are counted twice or never"

    def _off(self, gpu_id: GpuId, now_s: float) -> None:
        if gpu_id in self._on_since_s:
            self._from_events_s += now_s - self._on_since_s.pop(gpu_id)

    def _epoch_begins(self) -> None:
        self._moves.clear()
        self._moved_gib = 0.0

    def _migrates(self, source: str, target: str) -> None:
        """Whether it succeeds or not: who is tried again counts again."""
        budget = FLEET.budget
        self._moves.update(("in all", f"out of {source}", f"into {target}"))
        self._moved_gib += FLEET.profiles["a"].state_gib
        limits = {
            "in all": budget.moves_per_epoch,
            f"out of {source}": budget.moves_out_per_gpu,
            f"into {target}": budget.moves_in_per_gpu,
        }
        for what, limit in limits.items():
            assert limit is None or self._moves[what] <= limit, f"{self._moves[what]} migrations {what} in one epoch"
        allowed_gib = budget.gib_per_epoch
        assert allowed_gib is None or self._moved_gib <= allowed_gib, f"{self._moved_gib:g} GiB migrated in one epoch"
