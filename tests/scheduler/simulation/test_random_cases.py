"""What random cases exercise: a comparison on them would claim little if they were all alike."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from scheduler import events
from scheduler.cluster import Snapshot
from scheduler.cluster_checks import validate
from scheduler.events import Event
from scheduler.fleet import Fleet
from tests.scheduler.simulation.oracle import Observe, run_oracle
from tests.scheduler.simulation.random_cases import seeded_case

SEEDS = range(150)
NEVER_TOLD = {events.SlackMeasured, events.MoveFailed}  # a lost GPU says it all


def test_random_cases_have_a_bit_of_everything_and_the_cluster_stays_consistent() -> None:
    seen: Counter[object] = Counter()
    for seed in SEEDS:
        case = seeded_case(seed)
        outcome = run_oracle(
            case.trace, case.fleet, case.prepared(), case.settings, observe=_counted(seen, case.fleet, seed)
        )
        moves = outcome.tables.moves
        seen[case.policy] += 1
        seen["time to plan"] += case.planning_s > 0
        seen["frozen later"] += moves.filter(moves["freeze_s"] > moves["start_s"]).height
        seen["late"] += outcome.summary.late_chunk_ratio > 0
        seen["stalls"] += outcome.summary.stall_seconds > 0
        seen.update([*moves["kind"], *moves["result"], *outcome.tables.gpus["end"], *outcome.tables.decisions["early"]])
    assert not {what: count for what, count in seen.items() if count < 5}
    assert set(get_args(Event)) - seen.keys() == NEVER_TOLD


def _counted(seen: Counter[object], fleet: Fleet, seed: int) -> Observe:
    def observe(event: Event, now_us: int, after: Snapshot) -> None:
        assert not validate(after, fleet), f"seed {seed}, at {now_us} us after {event}"
        seen[type(event)] += 1
        seen["two in flight"] += len(after.moves) > 1
        seen["returned while offloaded"] += any(
            after.sessions[name].status == "waiting" and move.kind == "offload" for name, move in after.moves.items()
        )

    return observe
