"""The recent past in bounded memory: activity per epoch, idle times, and for how many idling was the end.

Decides what is remembered and for how long; must never know what is concluded from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from scheduler.cluster import History

EPOCHS_MAX = 2048  # past epochs per profile
IDLE_TIMES_MAX = 1000  # ends of idle times per profile, returns and others together


class HistoryKeeper:
    """A history that grows; `history` is a value that later changes leave alone."""

    def __init__(self, history: History, active: Mapping[str, int]) -> None:
        """`active` [profile]: sessions active or waiting right now."""
        self._epoch_s = history.epoch_s
        self._active_max = {profile: list(counts) for profile, counts in history.active_max.items()}
        self._idle_s = {profile: list(lengths) for profile, lengths in history.idle_s.items()}
        self._gone = defaultdict(int, history.gone)
        self._scale_in_wanted_since_s = dict(history.scale_in_wanted_since_s)
        self._most = dict(history.active_max_now)
        self._active = defaultdict(int, active)
        for profile, count in active.items():
            self._most[profile] = max(count, self._most.get(profile, 0))
        self._told_active_max: dict[str, tuple[int, ...]] | None = None  # None: changed since it was told
        self._told_idle_s: dict[str, tuple[float, ...]] = {}  # [profile] is missing where it changed since

    def history(self) -> History:
        """What did not change since the last call is shared with it: a snapshot is taken at every step."""
        if self._told_active_max is None:
            self._told_active_max = {profile: tuple(counts) for profile, counts in self._active_max.items()}
        for profile, lengths in self._idle_s.items():
            if profile not in self._told_idle_s:
                self._told_idle_s[profile] = tuple(lengths)
        return History(
            epoch_s=self._epoch_s,
            active_max=dict(self._told_active_max),
            idle_s={profile: self._told_idle_s[profile] for profile in self._idle_s},
            gone=dict(self._gone),
            scale_in_wanted_since_s=dict(self._scale_in_wanted_since_s),
            active_max_now=dict(self._most),
        )

    def activity(self, profile: str, change: int) -> None:
        """One session more or less wants chunks."""
        self._active[profile] += change
        self._most[profile] = max(self._active[profile], self._most.get(profile, 0))

    def epoch_ended(self) -> None:
        """The epoch under way joins the past; epochs before a profile's first count as empty."""
        length = max((len(counts) for counts in self._active_max.values()), default=0)
        for profile in sorted(self._most.keys() | self._active_max.keys()):
            counts = self._active_max.setdefault(profile, [0] * length)
            counts.append(self._most.get(profile, 0))
            del counts[:-EPOCHS_MAX]
        self._most = {profile: count for profile, count in self._active.items() if count}
        self._told_active_max = None

    def returned(self, profile: str, idle_s: float) -> None:
        """A session was idle that long and came back."""
        self._idle_s.setdefault(profile, []).append(idle_s)
        self._forget(profile)

    def gone(self, profile: str) -> None:
        """An idle session ended for good."""
        self._gone[profile] += 1
        self._forget(profile)

    def scale_in(self, gpu_type: str, wanted: bool, now_s: float) -> None:
        if wanted:
            self._scale_in_wanted_since_s.setdefault(gpu_type, now_s)
        else:
            self._scale_in_wanted_since_s.pop(gpu_type, None)

    def _forget(self, profile: str) -> None:
        """When full, the older half of the returns goes, and as large a part of the others: their ratio stays."""
        self._told_idle_s.pop(profile, None)
        lengths = self._idle_s.get(profile, [])
        if len(lengths) + self._gone[profile] > IDLE_TIMES_MAX:
            del lengths[: len(lengths) // 2]
            self._gone[profile] //= 2
