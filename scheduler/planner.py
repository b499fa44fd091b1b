"""The online planner: one snapshot in, one checked plan and what it is worth out.

Decides the order of decisions in an epoch: GPUs, placement, residency, waves; must never know who carries a plan out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from scheduler.cluster import Snapshot
from scheduler.desired_state import desired_state, stopped_when_empty
from scheduler.early_placement import placed_between_epochs
from scheduler.fleet import Fleet
from scheduler.formulate import Formulated, admitting, formulate
from scheduler.gpu_decision import CountGpus, GpuDecision, keep_what_is_on
from scheduler.interpret import changes
from scheduler.near_home import near_home
from scheduler.plan import Decision, Move, Report, StageTime
from scheduler.plan_check import check_plan
from scheduler.planner_report import stage_times, tier_reports
from scheduler.planner_settings import PlannerSettings
from scheduler.policy import Budget
from scheduler.preempt import preemptions
from scheduler.residency import offloads
from scheduler.scaling import ScaleByForecast, hold_what_is_on
from scheduler.waves import arrange
from solvers.placement.check import evaluate, violations
from solvers.placement.fitting import place_in_turn
from solvers.placement.meter import Meter
from solvers.placement.portfolio import solve
from solvers.placement.problem import Problem
from solvers.placement.solution import Answer, Placement

_NOT_BETWEEN_EPOCHS = {"leave": False, "balance": False, "move": False, "smooth": False}  # tiers that ask to migrate


class Planner:
    """Our policy. It keeps no state between steps: equal snapshots and budgets of work give equal decisions.

    GPUs are counted by forecast; with `pay` off, or `count_gpus=keep_what_is_on`, those that are on stay on.
    """

    def __init__(
        self,
        fleet: Fleet,
        settings: PlannerSettings | None = None,
        *,
        count_gpus: CountGpus | None = None,
        hold_gpus: CountGpus | None = None,
    ) -> None:
        """`hold_gpus` is asked between epochs, where somebody finds no place in time; it must not drain any."""
        self._fleet = fleet
        self._settings = settings or PlannerSettings()
        by_default = ScaleByForecast(fleet, self._settings.scaling) if self._settings.pay else keep_what_is_on
        self._count_gpus: CountGpus = count_gpus or by_default
        as_counted = hold_what_is_on if self._settings.pay and count_gpus is None else keep_what_is_on
        self._hold_gpus: CountGpus = hold_gpus or as_counted
        self._between = self._settings.model_copy(update=_NOT_BETWEEN_EPOCHS)

    def step(self, snapshot: Snapshot, now_s: float, budget: Budget) -> Decision:
        """Plan one epoch, or place who waits between two; the plan has passed the checker."""
        meter = budget.meter()
        if budget.early:
            return self._early(snapshot, now_s, meter)
        gpus = self._count_gpus(snapshot, self._fleet, now_s, meter)
        formulated = formulate(snapshot, self._fleet, self._settings, now_s, gpus.aims)
        answer, fallback = self.place(formulated, meter)
        wanted = self._moves(formulated, answer, snapshot, now_s)
        return self._decided(snapshot, now_s, formulated, answer, wanted, gpus, fallback)

    def _early(self, snapshot: Snapshot, now_s: float, meter: Meter) -> Decision:
        """Who waits goes where it harms least, late ones make way, and GPUs start only if those on hold too little."""
        gpus = keep_what_is_on(snapshot, self._fleet, now_s, meter)
        formulated = formulate(snapshot, self._fleet, self._between, now_s, gpus.aims)
        answer = placed_between_epochs(formulated, meter)
        if answer is None or any(answer.value.serve) or answer.value.meet > answer.before.meet:
            gpus = replace(self._hold_gpus(snapshot, self._fleet, now_s, meter), scale_in_wanted={})
        wanted = [m for m in self._moves(formulated, answer, snapshot, now_s) if m.reason not in ("drain", "idle")]
        # Balance is not looked at here: whoever migrates from a GPU that is on time makes way for somebody who waits.
        wanted = [replace(move, reason="late") if move.reason == "balance" else move for move in wanted]
        return self._decided(snapshot, now_s, formulated, answer, wanted, gpus, None)

    def _decided(
        self,
        snapshot: Snapshot,
        now_s: float,
        formulated: Formulated,
        answer: Answer | None,
        wanted: list[Move],
        gpus: GpuDecision,
        fallback: str | None,
    ) -> Decision:
        moves, dropped = arrange(wanted, snapshot, self._fleet, self._settings.limits)
        plan = desired_state(snapshot, stopped_when_empty(gpus.aims, snapshot), moves)
        wrong = check_plan(snapshot, self._fleet, plan, self._settings.limits)
        assert not wrong, "; ".join(wrong[:5])
        warnings = (*gpus.warnings, *_told(formulated, answer, dropped))
        return Decision(
            plan=plan,
            report=self._report(formulated, answer, gpus, fallback, warnings),
            next_step_s=self._next_step_s(snapshot, formulated, now_s),
            scale_in_wanted=gpus.scale_in_wanted,
        )

    def place(self, formulated: Formulated, meter: Meter) -> tuple[Answer | None, str | None]:
        """The best placement; None where there is no GPU to speak of.

        Where not everybody can be served and priorities compete, who waits is admitted level by level first.
        """
        problem = formulated.problem
        if not problem.gpus:
            return None, None
        if len(formulated.levels) > 1:
            quick = self._solve(problem, meter, gap=1.0, exact=False)
            if sum(quick.value.serve):
                admitted = self._admitted(formulated, meter)
                answer = _of_everybody(problem, self._checked(admitted, meter), quick)
                return answer, "not everybody can be served; who waits was admitted by priority and waiting time"
        return self._checked(problem, meter), None

    def _checked(self, problem: Problem, meter: Meter) -> Answer:
        answer = self._solve(problem, meter, gap=self._settings.gap, exact=self._settings.exact)
        wrong = violations(problem, answer.placement)
        assert not wrong, "; ".join(wrong[:5])
        return answer

    def _admitted(self, formulated: Formulated, meter: Meter) -> Problem:
        """The problem with those waiting who have a place when all before them have theirs."""
        admitted = np.zeros_like(formulated.problem.waiting)
        before = np.zeros_like(admitted)
        for level in formulated.levels:
            asking = np.where(admitted == before, level, 0)  # whoever is behind an equal that has no place has none
            answer = self._solve(admitting(formulated.problem, admitted, asking), meter, gap=1.0, exact=False)
            placed = answer.placement.placed.sum(axis=0)
            if (placed < admitted).any():  # more are served without them: nobody moves for those who ask, then
                placed = place_in_turn(formulated.problem, (admitted, asking)).placed.sum(axis=0)
            if (placed >= admitted).all():
                admitted = placed
            before = before + level
        return admitting(formulated.problem, admitted, np.zeros_like(admitted))

    def _solve(self, problem: Problem, meter: Meter, *, gap: float, exact: bool) -> Answer:
        return solve(problem, meter, seed=self._settings.seed, gap=gap, exact=exact)

    def _moves(self, formulated: Formulated, answer: Answer | None, snapshot: Snapshot, now_s: float) -> list[Move]:
        """Offloads that make room come first, those that only keep a reserve last."""
        if answer is None:
            return []
        placement = near_home(formulated, answer.placement, snapshot, self._fleet)
        placed = changes(formulated, placement, snapshot, self._fleet)
        moved = {move.session_id for move in placed}
        placed = preemptions(formulated, placement, snapshot, self._fleet, moved) + placed
        if not self._settings.residency:
            return placed
        gone = offloads(formulated, placement, snapshot, self._fleet, self._settings.idle, now_s)
        first = [move for move in gone if move.reason == "memory"]
        return first + placed + [move for move in gone if move.reason != "memory"]

    def _report(
        self,
        formulated: Formulated,
        answer: Answer | None,
        gpus: GpuDecision,
        fallback: str | None,
        warnings: tuple[str, ...],
    ) -> Report:
        tiers = tier_reports(formulated.problem, answer, gpus.pay, gap=self._settings.gap)
        stages: tuple[StageTime, ...] = () if answer is None else stage_times(answer)
        return Report(
            solver="none" if answer is None else answer.solver,
            end_reason="no GPU is ready" if answer is None else answer.end_reason,
            tiers=tiers,
            stages=stages,
            fallback=fallback,
            warnings=warnings,
            forecast=gpus.forecast,
        )

    def _next_step_s(self, snapshot: Snapshot, formulated: Formulated, now_s: float) -> float:
        """After an epoch, or as soon as a GPU that starts is ready or somebody may wait for a place no longer."""
        ready = [gpu.ready_s for gpu in snapshot.gpus.values() if gpu.ready_s is not None and gpu.ready_s > now_s]
        return min([now_s + self._fleet.epoch_s, *ready, *formulated.held.values()])


def _of_everybody(problem: Problem, answer: Answer, quick: Answer) -> Answer:
    """An answer for those admitted, valued with all who wait; only the bound for everybody holds for `serve`."""
    return replace(
        answer,
        value=evaluate(problem, answer.placement),
        before=evaluate(problem, Placement.unchanged(problem)),
        bounds=replace(answer.bounds, serve=quick.bounds.serve),
    )


def _told(formulated: Formulated, answer: Answer | None, dropped: tuple[Move, ...]) -> tuple[str, ...]:
    """What an operator should know."""
    waiting = int(formulated.problem.waiting.sum())
    placed = 0 if answer is None else int(answer.placement.placed.sum())
    warnings = []
    if formulated.held:
        warnings.append(f"{len(formulated.held)} sessions wait for a place on which nobody would be late")
    if placed < waiting:
        warnings.append(f"{waiting - placed} sessions have no GPU")
    for kind, count in sorted(Counter(move.kind for move in dropped).items()):
        warnings.append(f"{count} moves ({kind}) have to wait: memories or links do not let them through in any wave")
    return tuple(warnings)
