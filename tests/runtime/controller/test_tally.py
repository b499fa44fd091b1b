"""What is counted: every second of a GPU once, every hand-over with its end, and how plans were found."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.world.fleet import FLEET
from bench.world.life import emptied, fail_lanes
from bench.world.world import TICK_S, World
from runtime.controller.controller import Exited
from runtime.controller.tally import Tally
from scheduler.cluster_state import all_off
from scheduler.plan import Report, StageTime, TierReport
from tests.runtime.controller.test_controller import W, a_controller

GPU = next(iter(all_off(FLEET).gpus.values()))
REGRET = 'epochal_regret_ratio{objective="cost"}'
GPU_SECONDS = 'epochal_gpu_seconds_total{type="h100"}'


def test_a_gpu_is_paid_for_from_the_first_switch_on_until_its_worker_has_left() -> None:
    tally = Tally()
    tally.gpu_on(GPU, 1.0)
    tally.gpu_on(GPU, 4.0)
    assert tally.counts(FLEET, 6.0)[GPU_SECONDS] == 5.0
    tally.copy().gpu_off(GPU.gpu_id, 7.0)
    tally.gpu_off(GPU.gpu_id, 11.0)
    tally.gpu_off(GPU.gpu_id, 12.0)
    counts = tally.counts(FLEET, 20.0)
    assert counts[GPU_SECONDS] == 10.0
    assert counts["epochal_cost_dollars_total"] == pytest.approx(10.0 * 3.6 / 3600)


def test_a_worker_that_has_exited_costs_nothing() -> None:
    controller = a_controller()
    controller.handle(Exited(worker=W, incarnation=1, reason="killed"), 3.0)
    assert controller._books.tally.counts(FLEET, 9.0)[GPU_SECONDS] == 3.0


def test_a_plan_says_who_found_it_and_how_good_it_is() -> None:
    tier = TierReport(tier="serve", unit="", before=1, value=4, bound=3, gap=0.25, proven=False, proof="")
    stages = tuple(
        StageTime(solver=solver, seconds=seconds, end_reason="", value=None, bound=0.0, gap=0.0)
        for solver, seconds in (("greedy", 0.25), ("cp-sat", 0.5), ("greedy", 0.5))
    )
    tally = Tally()
    tally.planned(Report(solver="cp-sat", end_reason="", tiers=(tier,), stages=stages, fallback="late"), 5.0)
    assert tally.counts(FLEET, 7.0) == {
        'epochal_plan_solve_seconds_sum{solver="greedy"}': 0.75,
        'epochal_plan_solve_seconds_count{solver="greedy"}': 2.0,
        'epochal_plan_solve_seconds_sum{solver="cp-sat"}': 0.5,
        'epochal_plan_solve_seconds_count{solver="cp-sat"}': 1.0,
        'epochal_plan_fallback_total{reason="by_priority"}': 1.0,
        "epochal_plan_gap_ratio": 0.25,
        "epochal_plan_age_seconds": 2.0,
        "epochal_cost_dollars_total": 0.0,
    }


def test_cost_is_held_against_the_least_since_the_first_plan() -> None:
    """Two GPUs for a minute in which one would have done, then one; what was paid before the first plan is left out."""
    tally = Tally()
    other = list(all_off(FLEET).gpus.values())[1]
    tally.gpu_on(GPU, 0.0)
    tally.gpu_on(other, 100.0)
    tally.hold_against(3.6, FLEET, 100.0)
    assert REGRET not in tally.counts(FLEET, 100.0)
    assert tally.counts(FLEET, 160.0)[REGRET] == pytest.approx(1.0)
    tally.hold_against(3.6, FLEET, 160.0)
    tally.gpu_off(GPU.gpu_id, 160.0)
    copied = tally.copy()
    assert copied.counts(FLEET, 220.0)[REGRET] == pytest.approx(0.5, abs=0.02), "newer dollars count a little more"
    copied.hold_against(7.2, FLEET, 220.0)
    assert tally.counts(FLEET, 10_000.0)[REGRET] == pytest.approx(0.0, abs=1e-2)
    assert copied.counts(FLEET, 10_000.0)[REGRET] == pytest.approx(-0.5, abs=1e-2)


class Paying(World):
    """It knows what workers have cost that are starting or there, as their provider has them."""

    paid_s = 0.0

    def step(self) -> None:
        super().step()
        self.paid_s += TICK_S * (len(self.workers) + len(self.starting))


def test_counts_are_what_the_world_has_seen(tmp_path: Path) -> None:
    """GPUs as the provider has them, and hand-overs as the journal has them."""
    world = Paying(4, tmp_path / "journal")
    users = world.clients.users
    for _ in range(300):
        if len(users) < 12 and world.chance.random() < 0.2:
            world.clients.come(world.now_s)
        if world.chance.random() < 0.15:
            user = world.chance.choice(users)
            world.clients.pause(user, world.now_s, paused=not user.paused)
        if world.chance.random() < 0.05:
            fail_lanes(world)
        world.step()
    assert emptied(world) == []
    world.close()
    counts = world.control.controller._books.tally.counts(FLEET, world.now_s)
    assert counts[GPU_SECONDS] == pytest.approx(world.paid_s, abs=TICK_S * world.reached["Joined"])
    ended = {
        result: sum(value for key, value in counts.items() if f'total{{result="{result}"' in key)
        for result in ("done", "failed", "dropped")
    }
    assert sum(ended.values()) == world.reached["Prepared"] - len(world.control.controller.truth.handovers)
    assert ended["failed"] > 0
    assert counts["epochal_migration_seconds_count"] == ended["done"] == world.reached["Committed"]
    assert counts['epochal_offload_seconds_count{direction="to_host"}'] > 0
    assert counts['epochal_offload_seconds_count{direction="to_device"}'] > 0
