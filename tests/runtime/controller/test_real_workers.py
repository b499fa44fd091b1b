"""Hand-overs of real workers, with controllers and workers that are killed: every chunk is there once, and the same."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from runtime.journal.records import Committed, Finished, Prepared, Reactivated, Record
from scheduler.cluster import SessionId
from tests.runtime.controller.real_controller import RealController
from tests.runtime.worker.live import a_live_fleet
from tests.runtime.worker.live_sessions import Script

NAMES = ("a", "b", "c")
SESSIONS = tuple(SessionId(f"s{number}") for number in range(3))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealController]:
    with a_live_fleet() as fleet:
        made = RealController(fleet, tmp_path_factory.mktemp("controller") / "journal.sqlite")
        for name in NAMES:
            made.join(name)
        for number, session_id in enumerate(SESSIONS):
            script = Script(model=fleet.model, seed=number, changes=((3, None, "up"), (7, "blue square", "")))
            made.open(session_id, NAMES[number % 2], script)
        yield made
        made.journal.close()


@pytest.fixture
def controller(running: RealController) -> RealController:
    """All workers live, all sessions are served."""
    for name in NAMES:
        if not running.fleet.workers[name].lives:
            running.join(name)
    running.fleet.wait_more()
    running.written.clear()
    running.before_words = lambda _: None
    return running


def next_name(controller: RealController, session_id: SessionId) -> str:
    return NAMES[(NAMES.index(controller.fleet.owner[session_id][0]) + 1) % len(NAMES)]


def test_states_go_round_and_chunks_stay_what_they_are(controller: RealController) -> None:
    for way in ("gloo", "tcp", "gloo"):
        for session_id in SESSIONS:
            controller.begin(session_id, next_name(controller, session_id), way)
        controller.run_until_quiet()
        controller.fleet.check()
    kinds = [type(record) for record in controller.written]
    assert kinds.count(Prepared) == kinds.count(Committed) == kinds.count(Finished) == 9


@pytest.mark.parametrize("seed", range(3))
def test_controllers_that_die_leave_nobody_frozen(controller: RealController, seed: int) -> None:
    """The next one goes on from the journal and from what workers hold."""
    chance = random.Random(seed)
    for _ in range(4):
        for session_id in SESSIONS:
            controller.begin(session_id, next_name(controller, session_id), "tcp")
        end_s = time.monotonic() + chance.uniform(0.0, 0.5)
        while time.monotonic() < end_s and controller.handovers.under_way:
            controller.listen(0.005)
        controller.crash()
        controller.run_until_quiet()
        controller.fleet.check()
    assert set(controller.fleet.owner) == set(SESSIONS)


def test_a_target_that_dies_after_the_commit_gives_its_session_back(controller: RealController) -> None:
    session_id = SESSIONS[0]
    source, ownership = controller.fleet.owner[session_id]
    target = next_name(controller, session_id)
    for other in SESSIONS[1:]:  # nobody else is hurt
        if controller.fleet.owner[other][0] == target:
            controller.begin(other, source, "tcp")
    controller.run_until_quiet()

    def killed(records: list[Record]) -> None:
        if any(isinstance(record, Committed) for record in records):
            controller.fleet.workers[target].signal(signal.SIGKILL)  # it does not hear that it is to serve

    controller.before_words = killed
    controller.begin(session_id, target, "tcp")
    controller.run_until_quiet()
    assert any(isinstance(record, Reactivated) for record in controller.written)
    assert controller.fleet.owner[session_id] == (source, ownership + 2)
    controller.fleet.check()
