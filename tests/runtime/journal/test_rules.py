"""One owner at most, whatever is written; and what cannot follow is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice

import msgspec
import pytest

from runtime.journal.records import (
    RECORD_BYTES_MAX,
    Aborted,
    Began,
    Cleared,
    Committed,
    Created,
    Ended,
    Finished,
    Joined,
    Left,
    Lost,
    Placed,
    Prepared,
    Prompted,
    Reactivated,
    Record,
    of_bytes,
    to_bytes,
)
from runtime.journal.rules import ContradictionError, after
from runtime.journal.truth import Truth, truth_of_bytes, truth_to_bytes
from tests.runtime.journal.records import a_session, lives

TWO_WORKERS = (Joined(worker="w0", incarnation=1), Joined(worker="w1", incarnation=1))
PLACED = (*TWO_WORKERS, a_session("s"), Placed(session_id="s", worker="w0"))
PREPARED = (*PLACED, Prepared(session_id="s", attempt=5, target="w1"))
COMMITTED = (*PREPARED, Committed(attempt=5))
W0_LEFT = Left(worker="w0", incarnation=1, reason="killed")
W1_LEFT = Left(worker="w1", incarnation=1, reason="killed")


def told(*records: Record) -> Truth:
    return after(Truth(), records)


def test_a_session_is_owned_by_who_it_is_placed_on() -> None:
    session = told(*PLACED).sessions["s"]
    assert (session.worker, session.ownership, session.lineage) == ("w0", 1, 0)


def test_owners_that_have_fallen_are_counted_until_the_session_is_cleared() -> None:
    assert told(*PLACED, W0_LEFT).sessions["s"].fallen == 1
    assert told(*PLACED, msgspec.structs.replace(W0_LEFT, stopped=True)).sessions["s"].fallen == 0
    again = (*PLACED, W0_LEFT, Placed(session_id="s", worker="w1"), W1_LEFT)
    assert told(*again).sessions["s"].fallen == 2
    assert told(*again, Cleared(session_id="s")).sessions["s"].fallen == 0


def test_the_commit_moves_the_owner_and_nothing_before_it_does() -> None:
    assert told(*PREPARED).sessions["s"].worker == "w0"
    assert told(*PREPARED, Aborted(attempt=5)) == msgspec.structs.replace(told(*PLACED), last_attempt=5)
    session = told(*COMMITTED).sessions["s"]
    assert (session.worker, session.ownership, session.lineage) == ("w1", 2, 0)
    assert told(*COMMITTED, Finished(attempt=5)).handovers == {}


def test_a_dead_target_gives_the_session_back_in_an_ownership_above_the_commits() -> None:
    session = told(*COMMITTED, W1_LEFT, Reactivated(attempt=5)).sessions["s"]
    assert (session.worker, session.ownership, session.lineage, session.lost) == ("w0", 3, 0, False)


def test_when_both_are_gone_it_begins_anew() -> None:
    lost = told(*COMMITTED, W1_LEFT, W0_LEFT, Reactivated(attempt=5))
    assert lost.sessions["s"].lost
    again = after(lost, [Joined(worker="w2", incarnation=1), Placed(session_id="s", worker="w2")])
    assert (again.sessions["s"].lineage, again.sessions["s"].worker) == (1, "w2")


def test_what_is_on_a_dead_worker_is_lost_and_nothing_else() -> None:
    truth = told(*PLACED, a_session("other"), Placed(session_id="other", worker="w1"), W0_LEFT)
    assert truth.sessions["s"].lost
    assert truth.sessions["s"].worker is None
    assert truth.sessions["other"].worker == "w1"


def test_a_lost_state_costs_the_lineage_and_not_the_worker() -> None:
    truth = told(*PLACED, Lost(session_id="s"), Placed(session_id="s", worker="w0"))
    assert (truth.sessions["s"].lineage, truth.sessions["s"].ownership) == (1, 2)
    assert set(truth.workers) == {"w0", "w1"}


@pytest.mark.parametrize(
    ("before", "record"),
    [
        ((), Began(controller_epoch=2)),
        (TWO_WORKERS, Joined(worker="w0", incarnation=2)),
        (TWO_WORKERS, Left(worker="w0", incarnation=2, reason="")),
        (PLACED, a_session("s")),
        (TWO_WORKERS, Prompted(session_id="s", prompt="")),
        (TWO_WORKERS, Ended(session_id="s")),
        (PLACED, Placed(session_id="s", worker="w1")),
        ((*PLACED, Lost(session_id="s")), Lost(session_id="s")),
        ((a_session("s"),), Placed(session_id="s", worker="w0")),
        ((*TWO_WORKERS, a_session("s")), Prepared(session_id="s", attempt=1, target="w1")),
        (PLACED, Prepared(session_id="s", attempt=1, target="w0")),
        (PLACED, Prepared(session_id="s", attempt=1, target="w2")),
        ((*PREPARED, Aborted(attempt=5)), Prepared(session_id="s", attempt=5, target="w1")),
        (PREPARED, Prepared(session_id="s", attempt=6, target="w1")),
        (PREPARED, Ended(session_id="s")),
        ((*PREPARED, W0_LEFT), Placed(session_id="s", worker="w1")),
        (PLACED, Committed(attempt=5)),
        (PREPARED, Finished(attempt=5)),
        (COMMITTED, Aborted(attempt=5)),
        (COMMITTED, Committed(attempt=5)),
        (COMMITTED, Reactivated(attempt=5)),
    ],
)
def test_what_cannot_follow_is_refused_and_changes_nothing(before: Sequence[Record], record: Record) -> None:
    truth = told(*before)
    copied = truth_to_bytes(truth)
    with pytest.raises(ContradictionError):
        after(truth, [record])
    assert truth_to_bytes(truth) == copied


@pytest.mark.parametrize("seed", range(10))
def test_owners_are_there_ownership_grows_and_steps_add_up(seed: int) -> None:
    truth, highest, seen = Truth(), dict[str, int](), Counter[str]()
    records = list(islice(lives(seed), 1500))
    for record in records:
        truth = after(truth, [record])
        seen[type(record).__name__] += 1
        for name, session in truth.sessions.items():
            assert session.worker is None or session.worker in truth.workers
            assert session.ownership >= highest.get(name, 0)
            highest[name] = session.ownership
        highest = {name: each for name, each in highest.items() if name in truth.sessions}
        handed_over = [handover.session_id for handover in truth.handovers.values()]
        assert len(handed_over) == len(set(handed_over))
    assert truth == after(Truth(), records)
    assert truth_of_bytes(truth_to_bytes(truth)) == truth
    assert len(seen) == 15, f"some records never came: {seen}"


def test_bytes_do_not_depend_on_the_order_in_which_things_came() -> None:
    there = told(Joined(worker="a", incarnation=1), Joined(worker="b", incarnation=2))
    back = told(Joined(worker="b", incarnation=2), Joined(worker="a", incarnation=1))
    assert truth_to_bytes(there) == truth_to_bytes(back)


def test_records_come_back_as_they_were() -> None:
    for record in islice(lives(3), 200):
        assert of_bytes(to_bytes(record)) == record


def test_fields_beyond_their_limits_are_never_written() -> None:
    longest = Created(
        session_id="s" * 256, profile="p" * 256, seed=1, prompt="\U0001f600" * 4096, token_sha256=b"0" * 32
    )
    assert len(to_bytes(longest)) <= RECORD_BYTES_MAX
    for wrong in (
        a_session(""),
        a_session("s" * 257),
        a_session("s", prompt="x" * 4097),
        Created(session_id="s", profile="p", seed=-1, prompt="", token_sha256=b"0" * 32),
        Created(session_id="s", profile="p", seed=1, prompt="", token_sha256=b"0" * 31),
    ):
        with pytest.raises(msgspec.ValidationError):
            to_bytes(wrong)
