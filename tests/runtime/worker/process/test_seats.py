"""Who takes part in a pass: those in the middle of a chunk, and whoever has waited longest."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runtime.chunk_models.chunk_model import Head
from runtime.worker.process.carried import Carried, unpacked
from runtime.worker.process.seats import Seats
from scheduler.cluster import SessionId


def with_sessions(count: int, coalesce_max: int) -> tuple[Seats, list[SessionId]]:
    seats, names = Seats(coalesce_max), [SessionId(f"s{at}") for at in range(count)]
    for name in names:
        head = Head(session=name, profile="a", seed=1, prompt="", revision="r")
        seats.put(name, Carried(head=head, encoding="none", scale=1))
    return seats, names


def test_a_chunk_is_made_with_the_head_that_it_began_with() -> None:
    seats, (name,) = with_sessions(1, 1)
    seats.begin(name, offset=512)
    (seat,) = seats.running
    assert (seat.head.chunk_number, seat.offset) == (0, 512)
    assert seats.complete(name) == seat.head
    carried = unpacked(seats.head_of(name))
    assert isinstance(carried, Carried)
    assert carried.head.chunk_number == 1
    assert seats.numbers == ((name, 1),)


def test_who_is_removed_is_in_no_pass() -> None:
    seats, (first, second) = with_sessions(2, 2)
    seats.begin(first, 0)
    assert seats.remove(first)
    assert not seats.remove(second)
    assert seats.running == ()
    assert seats.numbers == ()


@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.integers(1, 4), min_size=40, max_size=40))
def test_nobody_is_passed_over_and_no_pass_is_too_large(count: int, coalesce_max: int, passes: list[int]) -> None:
    """Chunks take any number of passes; whoever can run begins as often as any other, give or take one."""
    seats, names = with_sessions(count, coalesce_max)
    begun: Counter[SessionId] = Counter()
    left: dict[SessionId, int] = {}
    for turn in passes:
        for name in seats.joiners(name for name in names if name not in left):
            seats.begin(name, 0)
            begun[name] += 1
            left[name] = turn
        assert len(seats.running) == min(count, coalesce_max)
        left = {name: passes_left - 1 for name, passes_left in left.items()}
        for name in [name for name, passes_left in left.items() if passes_left == 0]:
            seats.complete(name)
            del left[name]
    if coalesce_max >= count:
        assert min(begun[name] for name in names) >= len(passes) // 4
    else:
        assert max(begun.values()) - min(begun[name] for name in names) <= 4
