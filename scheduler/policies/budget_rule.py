"""The reference's GPU budget: follows load, scales out at once, and in once the lower target has held.

Decides GPUs per type from sessions that want chunks; must never know where they are. Source: arXiv 2606.19271 and
public reimplementations: M = ceil(active / (capacity * 0.9)), at least ceil(active / capacity); scale out at once,
scale in only after the lower target has held for 5 s. The rule is silent on these, and we decide: whoever waits counts
as active; the target has held if no step of the last 5 s wanted more; what scales in is the most that any of them
wanted, and the GPUs that are on at the first step count as wanted then; several profiles and types as in `sizing`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from scheduler.policies.sizing import gpus_for
from scheduler.policies.view import View


class BudgetRule:
    """A `Scale`; at early steps, too, GPUs start."""

    def __init__(self, *, headroom: float, hold_s: float) -> None:
        self._headroom, self._hold_s = headroom, hold_s
        self._targets: deque[tuple[float, dict[str, int]]] = deque()  # of the last `hold_s`, and the one before

    def __call__(self, view: View, now_s: float, *, early: bool) -> Mapping[str, int]:  # noqa: ARG002
        target = gpus_for(view.facts, view.wanted, self._headroom)
        on = Counter(gpu.gpu_type for gpu in view.snapshot.gpus.values() if gpu.status in ("ready", "starting"))
        wanted = target if self._targets else {t: max(target[t], on[t]) for t in target}
        self._targets.append((now_s, wanted))
        while len(self._targets) > 1 and self._targets[1][0] <= now_s - self._hold_s:
            self._targets.popleft()
        held = {t: max(each[t] for _, each in self._targets) for t in target}
        return {t: max(target[t], min(on[t], held[t])) for t in target}
