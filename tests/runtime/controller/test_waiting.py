"""Positions of those who wait, beside sorting them anew."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.controller.waiting import Waiting

_NOTES = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 4).map(float)), max_size=40)


@given(notes=_NOTES)
def test_positions_are_those_of_a_sorted_list(notes: list[tuple[str, float | None]]) -> None:
    waiting, known = Waiting(), dict[str, float]()
    for session_id, since_s in notes:
        before = list(waiting)
        copied = waiting.copy()
        copied.note(session_id, since_s)
        assert list(waiting) == before, "a copy is of its own"
        waiting = copied
        known.pop(session_id, None)
        if since_s is not None:
            known[session_id] = since_s
        ordered = [name for _, name in sorted((at_s, name) for name, at_s in known.items())]
        assert list(waiting) == ordered
        assert len(waiting) == len(ordered)
        for name in "abcdef":
            assert waiting.position(name) == (ordered.index(name) if name in ordered else 0)
