"""Rules that are broken on purpose, one at a time: some seed of the simulated world has to notice each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import SystemRandom
from typing import Any

import pytest

from bench.world.life import live
from runtime.controller import sessions
from runtime.controller.approval import Approval, Part, Ruling, Verb
from runtime.controller.books import Books
from runtime.controller.controller import Controller
from runtime.controller.handover import Progress
from runtime.controller.handovers import Handovers
from runtime.controller.orders import Orders
from runtime.controller.power import Power
from runtime.controller.roster import Roster
from runtime.controller.step import Step, Word
from runtime.controller.suspects import Suspects
from runtime.gateway.messages import Mode
from runtime.gateway.stream import Stream
from runtime.journal.journal import Journal
from runtime.transfer.messages import Activate
from runtime.worker.books import SERVES
from runtime.worker.books import Record as WorkerRecord
from runtime.worker.messages import Close, Desired
from runtime.worker.process.lease import Lease
from runtime.worker.process.messages import Delivered
from runtime.worker.sessions import SessionTable

SEEDS = 120
Patch = pytest.MonkeyPatch


def orders_are_said_once(patch: Patch) -> None:
    patch.setattr(Orders, "due", lambda *_: ())


def handovers_go_on_without_a_worker_that_has_left(patch: Patch) -> None:
    patch.setattr(Handovers, "left", lambda *_: Step())


def handovers_are_forgotten_in_a_restart(patch: Patch) -> None:
    def forgetful(cls: type[Handovers], truth: Any, now_s: float) -> tuple[Handovers, Step]:  # noqa: ARG001
        return cls(truth.controller_epoch), Step()

    patch.setattr(Handovers, "resumed", classmethod(forgetful))


def what_is_lost_stays_in_the_picture(patch: Patch) -> None:
    patch.setattr(sessions, "draw", lambda *_: None)


def decisions_that_were_not_written_are_kept(patch: Patch) -> None:
    patch.setattr(Controller, "copy", lambda self: self)


def lost_states_are_not_closed(patch: Patch) -> None:
    order = Books.order

    def all_but_closes(self: Books, worker: str, body: Desired, now_s: float) -> None:
        if not isinstance(body, Close):
            order(self, worker, body, now_s)

    patch.setattr(Books, "order", all_but_closes)


def frozen_sessions_go_on(patch: Patch) -> None:
    """Rule 1: the source computes while its state is on its way."""

    def may_run(self: SessionTable, record: WorkerRecord) -> bool:
        serves = record.state in (*SERVES, "frozen") and record.device is not None
        return serves and record.active and not self._books.is_computing(record.session_id)

    patch.setattr(SessionTable, "_may_run", may_run)


def chunks_are_taken_again(patch: Patch) -> None:
    """Rule 2."""
    take = Stream.take

    def careless(self: Stream, chunk: Delivered, *, present: bool) -> bool:
        self.number, self.ownership = min(self.number, chunk.number), min(self.ownership, chunk.ownership)
        return take(self, chunk, present=present)

    patch.setattr(Stream, "take", careless)


def who_was_superseded_goes_on(patch: Patch) -> None:
    """Rule 3."""
    patch.setattr(Journal, "demand_hold", lambda _: None)


def any_controller_is_listened_to(patch: Patch) -> None:
    """Rule 4."""
    patch.setattr(SessionTable, "hears", lambda *_: True)


def the_target_is_activated_before_the_commit(patch: Patch) -> None:
    """Rule 5."""
    words = Progress.words

    def hasty(self: Progress, horizon: int) -> tuple[Word, ...]:
        activate = Activate(session_id=self.session_id, attempt=self.attempt, ownership=self.ownership + 1)
        early = (Word(worker=self.target, body=activate),) if self.phase == "prepared" else ()
        return words(self, horizon) + early

    patch.setattr(Progress, "words", hasty)


def leases_never_end(patch: Patch) -> None:
    """Rule 6."""
    patch.setattr(Lease, "holds", lambda self, _: self.sent_s is not None)


def workers_are_stopped_first(patch: Patch) -> None:
    """Rule 8."""
    patch.setattr(Power, "_holds", lambda *_: False)


def plans_use_withheld_gpus(patch: Patch) -> None:
    patch.setattr(Power, "_without_withheld", lambda _, aims: aims)


def nobody_is_suspected(patch: Patch) -> None:
    """L4."""
    patch.setattr(Suspects, "fell", lambda *_: False)


def a_step_reads_chance(patch: Patch) -> None:
    """Rule 10."""
    ask = Roster._ask

    def moody(self: Roster, worker: str, incarnation: int) -> Word:
        self._question += SystemRandom().randrange(3)
        return ask(self, worker, incarnation)

    patch.setattr(Roster, "_ask", moody)


MUTANTS: tuple[Callable[[Patch], None], ...] = (
    orders_are_said_once,
    handovers_go_on_without_a_worker_that_has_left,
    handovers_are_forgotten_in_a_restart,
    what_is_lost_stays_in_the_picture,
    decisions_that_were_not_written_are_kept,
    lost_states_are_not_closed,
    frozen_sessions_go_on,
    chunks_are_taken_again,
    who_was_superseded_goes_on,
    any_controller_is_listened_to,
    the_target_is_activated_before_the_commit,
    leases_never_end,
    workers_are_stopped_first,
    plans_use_withheld_gpus,
    nobody_is_suspected,
    a_step_reads_chance,
)


@pytest.fixture
def patch() -> Iterator[Patch]:
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_some_seed_notices(mutant: Callable[[Patch], None], patch: Patch) -> None:
    mutant(patch)
    assert any(_is_noticed(seed) for seed in range(SEEDS)), "no seed has noticed"


def nobody_is_asked(patch: Patch) -> None:
    patch.setattr(Approval, "at_once", lambda _self, plan, _gpus: Part(moves=plan.moves, aims=plan.gpus))


def any_word_is_taken_for_the_newest_plan(patch: Patch) -> None:
    rule = Approval.rule

    def careless(self: Approval, version: int, verb: Verb) -> Ruling:
        return rule(self, version if self.proposal is None else self.proposal, verb)

    patch.setattr(Approval, "rule", careless)


@pytest.mark.parametrize("mutant", [nobody_is_asked, any_word_is_taken_for_the_newest_plan])
def test_some_operator_notices(mutant: Callable[[Patch], None], patch: Patch) -> None:
    mutant(patch)
    assert any(_is_noticed(seed, "approve") for seed in range(SEEDS)), "no seed has noticed"


def _is_noticed(seed: int, mode: Mode = "execute") -> bool:
    """By an assertion, by an error, by what is left when the world has healed, or because a life is not repeated."""
    try:
        life = live(seed, mode)
        return life.problem != "" or (seed < 2 and live(seed, mode).history != life.history)
    except Exception:  # noqa: BLE001 - a broken rule may break anything
        return True
