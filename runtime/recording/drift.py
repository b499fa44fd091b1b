"""How rounds that were measured compare with what the fleet file says of them, and how many took part.

Decides what a ratio is of, and how the live one forgets; must never know who measured.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from runtime.recording.tally import Content, Once, believed
from runtime.worker.process.messages import Heartbeat
from scheduler.cluster_state import all_off
from scheduler.fleet import Fleet
from scheduler.latency import chunk_latency_ms

HALF_LIFE_S = 60.0  # after which what was measured counts half
SEATS_MAX = 4096  # sessions in a round: more are not believed
CONTENTS_MAX = 4096  # whose predictions are kept


class Predicted:
    """What a round takes by the fleet file."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._index = {name: index for index, name in enumerate(fleet.profiles)}
        self._known: dict[tuple[str, Content], float | None] = {}

    def round_s(self, gpu_type: str, content: Content) -> float | None:
        """None where the fleet has no figure for it."""
        key = gpu_type, content
        if key not in self._known:
            if len(self._known) >= CONTENTS_MAX:
                self._known.clear()
            self._known[key] = self._computed(gpu_type, content)
        return self._known[key]

    def _computed(self, gpu_type: str, content: Content) -> float | None:
        counts = np.zeros((1, len(self._index)), np.int64)
        for profile, sessions in content:
            if profile not in self._index or not 0 < sessions < 2**31:
                return None
            counts[0, self._index[profile]] += sessions
        latency_ms = float(chunk_latency_ms(self._fleet, gpu_type, counts)[0])
        return latency_ms / 1000 if 0 < latency_ms < float("inf") else None


@dataclass(slots=True)
class _Sums:
    measured_s: float = 0.0
    predicted_s: float = 0.0
    at_s: float = 0.0


class Drift:
    """Measured over predicted time of recent rounds, by profile and GPU type, as the controller hears of them.

    Beside it, of all rounds by GPU type: how many sessions took part.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._predicted, self._once = Predicted(fleet), Once()
        self._type = {str(name): gpu.gpu_type for name, gpu in all_off(fleet).gpus.items()}
        self._sums: defaultdict[tuple[str, str], _Sums] = defaultdict(_Sums)
        self._rounds: defaultdict[str, float] = defaultdict(float)
        self._seats: defaultdict[str, float] = defaultdict(float)  # sessions of each round, added up

    def hear(self, heartbeat: Heartbeat, now_s: float) -> None:
        gpu_type = self._type.get(heartbeat.worker)
        if gpu_type is None or not heartbeat.computed.rounds or not self._once.is_new(heartbeat):
            return
        for each in heartbeat.computed.rounds:
            seats = sum(sessions for _, sessions in each.content)
            if not believed(each.rounds, each.seconds) or not 0 < seats <= SEATS_MAX:
                continue
            self._rounds[gpu_type] += each.rounds
            self._seats[gpu_type] += each.rounds * seats
            round_s = self._predicted.round_s(gpu_type, each.content)
            if round_s is None:
                continue
            for profile, _ in each.content:
                sums = self._sums[profile, gpu_type]
                left = 0.5 ** ((now_s - sums.at_s) / HALF_LIFE_S)
                sums.measured_s = sums.measured_s * left + each.seconds
                sums.predicted_s = sums.predicted_s * left + each.rounds * round_s
                sums.at_s = now_s

    def counts(self) -> Mapping[str, float]:
        """For `Status.counts`."""
        ratios = {
            f'epochal_latency_drift_ratio{{profile="{profile}",type="{gpu_type}"}}': sums.measured_s / sums.predicted_s
            for (profile, gpu_type), sums in sorted(self._sums.items())
        }
        seats = {f'epochal_batch_size_sum{{type="{name}"}}': seats for name, seats in sorted(self._seats.items())}
        rounds = {f'epochal_batch_size_count{{type="{name}"}}': count for name, count in sorted(self._rounds.items())}
        return ratios | seats | rounds
