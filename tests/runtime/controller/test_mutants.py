"""Rules that are broken on purpose, one at a time: some seed of the simulated world has to notice each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.world.life import live
from runtime.controller import sessions
from runtime.controller.approval import Approval, Part, Ruling, Verb
from runtime.controller.books import Books
from runtime.controller.controller import Controller
from runtime.controller.handovers import Handovers
from runtime.controller.orders import Orders
from runtime.controller.roster import Roster
from runtime.controller.step import Step
from runtime.gateway.messages import Mode
from runtime.worker.messages import Close, Desired

SEEDS = 24
Patch = pytest.MonkeyPatch


def orders_are_said_once(patch: Patch) -> None:
    patch.setattr(Orders, "due", lambda *_: ())


def nobody_is_asked_again(patch: Patch) -> None:
    patch.setattr(Roster, "_ask_again", lambda *_: iter(()))


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


MUTANTS: tuple[Callable[[Patch], None], ...] = (
    orders_are_said_once,
    nobody_is_asked_again,
    handovers_go_on_without_a_worker_that_has_left,
    handovers_are_forgotten_in_a_restart,
    what_is_lost_stays_in_the_picture,
    decisions_that_were_not_written_are_kept,
    lost_states_are_not_closed,
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
    """By an assertion, by an error, or by what is left when the world has healed."""
    try:
        return live(seed, mode).problem != ""
    except Exception:  # noqa: BLE001 - a broken rule may break anything
        return True
