"""A lease runs from what the worker itself has sent and the controller has echoed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.worker.process.lease import Lease

times = st.floats(0, 1e6)


def test_a_new_worker_holds_none() -> None:
    assert not Lease().holds(0.0)


def test_it_holds_for_its_length_from_the_send_time() -> None:
    """However late the echo has come."""
    lease = Lease(length_s=10.0).renewed(100.0, now_s=109.0)
    assert lease.holds(109.9)
    assert not lease.holds(110.0)
    assert not Lease(length_s=10.0).renewed(100.0, now_s=111.0).holds(111.0)


def test_what_was_not_sent_yet_renews_nothing() -> None:
    assert not Lease(length_s=10.0).renewed(100.0, now_s=99.0).holds(99.0)


@given(st.lists(times, max_size=8), times)
def test_echoes_in_any_order_count_as_the_latest(echoes: list[float], now_s: float) -> None:
    lease = Lease(length_s=10.0)
    for sent_s in echoes:
        lease = lease.renewed(sent_s, now_s)
    past = [sent_s for sent_s in echoes if sent_s <= now_s]
    assert lease.holds(now_s) == (bool(past) and now_s < max(past) + 10.0)
