"""What travels beside a block: changes wait for their chunks, none is lost, doubled or taken out of turn."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.chunk_models.chunk_model import Head
from runtime.transfer.messages import HEAD_BYTES_MAX
from runtime.worker.messages import Open, Text
from runtime.worker.process.carried import CHANGES_MAX, Carried, opened, packed, unpacked
from runtime.worker.process.messages import Credit, Steer

HEAD = Head(session="s", profile="a", seed=1, prompt="first", revision="r")
FRESH = Carried(head=HEAD, encoding="none", scale=1)


def a_steer(serial: int, from_chunk: int = 0, prompt: str | None = None, control: str | None = None) -> Steer:
    return Steer(
        controller_epoch=1,
        incarnation=1,
        session_id="s",
        lineage=0,
        serial=serial,
        from_chunk=from_chunk,
        prompt=prompt,
        control=control,
    )


def steered(carried: Carried, *steers: Steer) -> Carried:
    for steer in steers:
        after = carried.steered(steer)
        assert after is not None
        carried = after
    return carried


def test_a_change_waits_for_its_chunk() -> None:
    carried = steered(FRESH, a_steer(1, from_chunk=1, prompt="second"))
    first = carried.begun()
    assert first.head.prompt == "first"
    second = first.ended().begun()
    assert (second.head.chunk_number, second.head.prompt, second.changes) == (1, "second", ())


def test_of_changes_that_are_due_the_last_that_was_told_counts() -> None:
    steers = (a_steer(1, prompt="one", control="up"), a_steer(2, prompt="two"), a_steer(3, from_chunk=9, prompt="late"))
    begun = steered(FRESH, *steers).begun()
    assert (begun.head.prompt, begun.head.control, len(begun.changes)) == ("two", "up", 1)


@given(st.permutations([1, 1, 2, 3, 3]))
def test_serials_are_taken_without_a_gap_and_once(serials: list[int]) -> None:
    carried = FRESH
    for serial in serials:
        carried = steered(carried, a_steer(serial, prompt=str(serial)))
    expected = 0
    for serial in serials:
        expected += serial == expected + 1
    assert carried.serial == expected
    assert [change.prompt for change in carried.changes] == [str(at + 1) for at in range(expected)]


def test_changes_that_wait_are_bounded() -> None:
    full = steered(FRESH, *(a_steer(at + 1, from_chunk=99) for at in range(CHANGES_MAX)))
    assert full.steered(a_steer(CHANGES_MAX + 1)) is None
    assert full.steered(a_steer(CHANGES_MAX)) is full


def test_the_highest_credit_counts() -> None:
    carried = FRESH
    for up_to in (0, 3, 2):
        carried = carried.credited(Credit(controller_epoch=1, incarnation=1, session_id="s", lineage=0, up_to=up_to))
    assert (carried.has_credit, carried.up_to) == (True, 3)
    assert not carried.ended().ended().ended().has_credit


def test_all_of_it_travels_and_fits() -> None:
    long = "\N{GRINNING FACE}" * 4096
    full = steered(FRESH, *(a_steer(at + 1, from_chunk=99, prompt=long) for at in range(CHANGES_MAX)))
    assert unpacked(packed(full)) == full
    assert len(packed(full)) < HEAD_BYTES_MAX


@pytest.mark.parametrize(
    "head", [b"", b"\xc1", b"\x81\xa1\xff\x01", b"\x81\xa1x" + b"\x91" * 100_000, msgspec.msgpack.encode({"head": 1})]
)
def test_what_is_no_head_is_told(head: bytes) -> None:
    wrong = unpacked(head)
    assert isinstance(wrong, str)
    assert wrong.startswith("not a head of this version: ")


def test_what_is_opened_has_a_text() -> None:
    text = Text(profile="a", seed=5, prompt="p", control="up", lineage=2, encoding="h264", scale=4)
    carried = opened(Open(session_id="s", state_bytes=1, ownership=1, text=text), "r")
    assert isinstance(carried, Carried)
    assert (carried.head.lineage, carried.head.seed, carried.encoding, carried.scale) == (2, 5, "h264", 4)
    assert opened(Open(session_id="s", state_bytes=1, ownership=1), "r") == (
        "no text came with it: profile, seed and prompt are needed"
    )
