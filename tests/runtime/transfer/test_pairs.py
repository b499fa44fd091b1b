"""Pairs are kept, lent to one at a time, few, and never used again after a failure."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from torch._C._distributed_c10d import Store, TCPStore

from runtime.transfer.pairs import Pair, Pairs
from runtime.transfer.transport import TransferError
from runtime.transfer.wire import Patience

PATIENCE = Patience(clock=time.monotonic, stopped=lambda: False, stall_s=1.0)


class Group:
    """What a backend would make; it knows where it was made."""

    def __init__(self, store: Store, rank: int) -> None:
        self.rank, self.closed = rank, False
        store.set(f"rank{rank}", "here")
        store.wait([f"rank{1 - rank}"], timedelta(seconds=1))


def make(store: Store, rank: int, _: timedelta) -> Any:
    return Group(store, rank)


def close(group: Any) -> None:
    assert not group.closed
    group.closed = True


@pytest.fixture(scope="module")
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, None, True, timedelta(seconds=5), False)


@pytest.fixture
def address(store: TCPStore) -> tuple[str, int]:
    return ("127.0.0.1", store.port)


class Workers:
    """Pairs of several workers, and a thread for the other side."""

    def __init__(self, address: tuple[str, int], pairs_max: int = 8) -> None:
        self.suffix = str(time.monotonic_ns())  # another place at the store for each test
        self.pairs = {
            name: Pairs(name + self.suffix, address, make, close, pairs_max=pairs_max, rendezvous_s=1.5)
            for name in "abc"
        }

    def meet(self, one: str, other: str, incarnation: int) -> tuple[Pair, Pair]:
        with ThreadPoolExecutor(1) as pool:
            far = pool.submit(self.lend, other, one, incarnation)
            return self.lend(one, other, incarnation), far.result()

    def lend(self, me: str, peer: str, incarnation: int) -> Pair:
        return self.pairs[me].lend(peer + self.suffix, incarnation, PATIENCE, time.monotonic() + 1.5)


def test_a_sound_pair_is_used_again_and_the_two_sides_have_different_ranks(address: tuple[str, int]) -> None:
    workers = Workers(address)
    a, b = workers.meet("a", "b", 1)
    assert (a.rank, b.rank) == (0, 1)
    workers.pairs["a"].give_back(a, sound=True)
    assert workers.lend("a", "b", 1) is a


def test_a_pair_that_has_failed_or_is_of_an_older_incarnation_is_closed(address: tuple[str, int]) -> None:
    workers = Workers(address)
    a, b = workers.meet("a", "b", 1)
    workers.pairs["a"].give_back(a, sound=False)
    workers.pairs["b"].give_back(b, sound=True)
    assert (a.group.closed, b.group.closed) == (True, False)
    with pytest.raises(TransferError, match=r"incarnation 1 of the pair with b.* has been used"):
        workers.lend("a", "b", 1)
    again, _ = workers.meet("a", "b", 2)
    assert again.group is not a.group
    assert b.group.closed


def test_a_pair_is_lent_to_one_transfer_at_a_time(address: tuple[str, int]) -> None:
    workers = Workers(address)
    a, _ = workers.meet("a", "b", 1)
    with pytest.raises(TransferError, match="is under way"):
        workers.lend("a", "b", 1)
    workers.pairs["a"].give_back(a, sound=True)
    assert workers.lend("a", "b", 1) is a


def test_more_pairs_than_may_be_are_refused_in_use_and_closed_when_idle(address: tuple[str, int]) -> None:
    workers = Workers(address, pairs_max=1)
    ab, _ = workers.meet("a", "b", 1)
    with pytest.raises(TransferError, match="1 pairs are in use"):
        workers.lend("a", "c", 1)
    workers.pairs["a"].give_back(ab, sound=True)
    ac, _ = workers.meet("a", "c", 1)
    workers.pairs["a"].give_back(ac, sound=True)
    assert (ab.group.closed, ac.group.closed) == (True, False)
    workers.pairs["a"].close()
    assert ac.group.closed


def test_nobody_on_the_other_side_is_a_loss_and_leaves_nothing_lent(address: tuple[str, int]) -> None:
    workers = Workers(address)
    with pytest.raises(TransferError, match="no pair with"):
        workers.lend("a", "b", 1)
    workers.meet("a", "b", 2)


def test_a_store_that_hangs_costs_no_more_than_the_rendezvous_and_few_threads() -> None:
    """A backlog that nobody accepts from looks like a store that is stopped."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pairs = Pairs("a", ("127.0.0.1", silent.getsockname()[1]), make, close, pairs_max=2, rendezvous_s=0.2)
        for incarnation in (1, 2):
            begun_s = time.monotonic()
            with pytest.raises(TransferError, match="does not answer"):
                pairs.lend("b", incarnation, PATIENCE, time.monotonic() + 60.0)
            assert time.monotonic() - begun_s < 30.0
        with pytest.raises(TransferError, match=r"2 pairs are still being made"):
            pairs.lend("b", 3, PATIENCE, time.monotonic() + 60.0)
    end_s = time.monotonic() + 10.0
    while any(thread.name.startswith("pair/") for thread in threading.enumerate()):
        assert time.monotonic() < end_s, "a thread has outlived its store"
        time.sleep(0.05)


def test_whoever_gives_up_does_not_wait_for_the_other_side(address: tuple[str, int]) -> None:
    stopped = threading.Event()
    patience = Patience(clock=time.monotonic, stopped=stopped.is_set, stall_s=60.0)
    pairs = Pairs(f"a{time.monotonic_ns()}", address, make, close, rendezvous_s=60.0)
    threading.Timer(0.1, stopped.set).start()
    begun_s = time.monotonic()
    with pytest.raises(TransferError):
        pairs.lend("b", 1, patience, time.monotonic() + 60.0)
    assert time.monotonic() - begun_s < 30.0
