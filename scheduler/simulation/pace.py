"""When the policy is asked: at epoch boundaries, and early where somebody waits or returned, GPUs came or went, or it
wished so.

Decides the instants of steps and of their plans; must never know what a policy answers.
"""

from __future__ import annotations

from scheduler.simulation.instants import FAR_US


class Pace:
    """Steps so far, and the plan that is being computed."""

    def __init__(self, *, epoch_us: int, spacing_us: int, horizon_us: int) -> None:
        self._epoch_us, self._spacing_us, self._horizon_us = epoch_us, spacing_us, horizon_us
        self._epoch_step_us = 0  # when the next one is due
        self._early_from_us = 0  # no early step before
        self._plan_us: int | None = None  # when the plan that is being computed takes effect
        self._given_up = False  # after an early step: those who wait are asked for no more until something changes
        self._called = False  # since the last step: a GPU became ready or was lost, or somebody returned to one
        self._wish_us = FAR_US  # when the policy wants to be asked again

    @property
    def plan_us(self) -> int:
        """When the plan that is being computed takes effect; `FAR_US`: none is."""
        return FAR_US if self._plan_us is None else self._plan_us

    def something_changed(self, *, hope: bool, calls: bool) -> None:
        """`hope`: those who wait may be asked for again; `calls`: the policy is to be asked though nobody waits."""
        self._given_up &= not hope
        self._called |= calls

    def next_us(self, waiting: int, now_us: int) -> int:
        """The next step or plan, if nothing else happens; `waiting`: sessions that wait and are not in flight."""
        if self._plan_us is not None:
            return self._plan_us
        epoch_us = self._epoch_step_us if self._epoch_step_us < self._horizon_us else FAR_US
        early_us = now_us if self._is_wanted(waiting) else self._wish_us
        return min(epoch_us, max(self._early_from_us, early_us, now_us + 1))

    def is_epoch_step(self, now_us: int) -> bool:
        return self._plan_us is None and self._epoch_step_us <= now_us

    def is_early_step(self, waiting: int, now_us: int) -> bool:
        wanted = self._is_wanted(waiting) or now_us >= self._wish_us
        return self._plan_us is None and now_us >= self._early_from_us and wanted

    def asked(self, *, early: bool, planning_us: int, wish_us: int, now_us: int) -> None:
        """A snapshot was taken; its plan takes effect when it has been computed. `wish_us`: when to ask again."""
        if not early:
            self._epoch_step_us = (now_us // self._epoch_us + 1) * self._epoch_us
        self._given_up |= early
        self._called = False
        self._wish_us = wish_us
        self._early_from_us = now_us + self._spacing_us
        self._plan_us = now_us + planning_us

    def took_effect(self) -> None:
        self._plan_us = None

    def _is_wanted(self, waiting: int) -> bool:
        return self._called or (waiting > 0 and not self._given_up)
