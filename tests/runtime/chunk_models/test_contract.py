"""What every ChunkModel keeps: a session is its head and its block, whoever shares its passes and wherever it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.chunk_models.chunk_model import SEED_MAX, ChunkModel, Head, RefusedError, Seat
from tests.runtime.chunk_models.hosts import CHUNK_MODELS, PLACES, Host

PROMPTS = ("red circle moving up", "a blue square", "anything at all", "")
CONTROLS = ("", "left", "stop")
SESSIONS = {"s0": "a", "s1": "b", "s2": "a"}

every_chunk_model = pytest.mark.parametrize("make", CHUNK_MODELS.values(), ids=CHUNK_MODELS)
Make = Callable[[], ChunkModel]


@dataclass
class Story:
    """Two hosts between which sessions move, and what each chunk was asked when it began."""

    hosts: tuple[Host, Host]
    where: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)  # passes done of the chunk in progress
    asked: dict[tuple[str, int], tuple[str, str]] = field(default_factory=dict)

    def run_pass(self, host: int, sessions: set[str]) -> None:
        present = [name for name in self.where if self.where[name] == host and name in sessions]
        for name in present:
            head = self.hosts[host].seats[name].head
            if self.begun.setdefault(name, 0) == 0:
                self.asked[name, head.chunk_number] = head.prompt, head.control
            self.begun[name] += 1
        for chunk in self.hosts[host].run_pass(*present):
            assert self.begun[chunk.session] == self.hosts[host].model.passes_per_chunk
            self.begun[chunk.session] = 0

    def move(self, name: str, to: int) -> None:
        """Leave at once, dropping a chunk in progress; the copy goes to the first free place of a host."""
        source = self.hosts[self.where[name]]
        source.model.forget(name)
        self.begun[name] = 0
        head, block = source.take_out(name)
        self.hosts[to].put_in(msgspec.msgpack.decode(msgspec.msgpack.encode(head), type=Head), block)
        self.where[name] = to


@cache
def hosts(make: Make) -> tuple[Host, Host, Host]:
    return Host(make()), Host(make()), Host(make(), dirt=0)


def alone(host: Host, head: Head, asked: dict[tuple[str, int], tuple[str, str]], chunks: int) -> Host:
    """The session by itself, asked the same for each chunk."""
    host.emptied().open(head, PLACES - 1)
    for number in range(chunks):
        prompt, control = asked[head.session, number]
        host.ask(head.session, prompt=prompt, control=control)
        host.run_chunks(1, head.session)
    return host


passes = st.tuples(st.just("pass"), st.integers(0, 1), st.sets(st.sampled_from(sorted(SESSIONS))))
moves = st.tuples(st.just("move"), st.sampled_from(sorted(SESSIONS)), st.integers(0, 1))
prompts = st.tuples(st.just("prompt"), st.sampled_from(sorted(SESSIONS)), st.sampled_from(PROMPTS))
controls = st.tuples(st.just("control"), st.sampled_from(sorted(SESSIONS)), st.sampled_from(CONTROLS))
everybody = st.just(("pass", 0, set(SESSIONS)))
stories = st.lists(st.one_of(everybody, everybody, passes, moves, prompts, controls), min_size=10, max_size=45)


@every_chunk_model
@given(story=stories)
@settings(max_examples=60)
def test_chunks_are_the_same_bytes_in_any_company_and_place(
    make: Make, story: list[tuple[str, object, object]]
) -> None:
    first_host, second_host, third_host = (host.emptied() for host in hosts(make))
    told = Story(hosts=(first_host, second_host))
    for seed, (name, profile) in enumerate(SESSIONS.items()):
        told.hosts[0].open(told.hosts[0].head(name, profile, seed))
        told.where[name] = 0
    for kind, first, second in story:
        match kind, first, second:
            case "pass", int(host), set(sessions):
                told.run_pass(host, sessions)
            case "move", str(name), int(to):
                told.move(name, to)
            case "prompt", str(name), str(prompt):
                told.hosts[told.where[name]].ask(name, prompt=prompt)
            case "control", str(name), str(control):
                told.hosts[told.where[name]].ask(name, control=control)
    for seed, (name, profile) in enumerate(SESSIONS.items()):
        at = told.hosts[told.where[name]]
        at.model.forget(name)
        done = at.seats[name].head.chunk_number
        reference = alone(third_host, third_host.head(name, profile, seed), told.asked, done)
        for number in range(done):
            made = next(one.chunks[name, number] for one in told.hosts if (name, number) in one.chunks)
            np.testing.assert_array_equal(made, reference.chunks[name, number])
        dirty = at.model.dirty(at.seats[name].head)  # what a dropped chunk may have left
        for bytes_left in (at.block(name), reference.block(name)):
            for one in dirty:
                bytes_left[one.start : one.stop] = 0
        assert torch.equal(at.block(name), reference.block(name))


@every_chunk_model
def test_a_chunk_writes_its_dirty_ranges_and_nothing_else(make: Make) -> None:
    host = Host(make())
    for profile in ("a", "b"):
        host.open(host.head(profile, profile))
        for _ in range(9):  # around the ring twice
            head, before = host.seats[profile].head, host.block(profile).clone()
            ranges = host.model.dirty(head)
            assert list(ranges) == sorted(ranges)
            assert all(one.stop < other.start for one, other in pairwise(ranges))
            written = torch.zeros(len(before), dtype=torch.bool)
            for one in ranges:
                written[one.start : one.stop] = True
            for _ in range(host.model.passes_per_chunk):
                host.run_pass(profile)
                assert torch.equal(host.block(profile)[~written], before[~written])
            for one in ranges:
                assert not torch.equal(host.block(profile)[one.start : one.stop], before[one.start : one.stop])


@every_chunk_model
def test_clean_bytes_copied_during_a_chunk_and_dirty_ones_after_it_are_the_session(make: Make) -> None:
    source, target = Host(make()), Host(make(), dirt=7)
    for host in (source, target):
        host.open(host.head("s"), 1)
    source.run_chunks(6, "s")
    source.run_pass("s")
    copy, ranges = source.block("s").clone(), source.model.dirty(source.seats["s"].head)
    for one in ranges:
        copy[one.start : one.stop] = 99
    for _ in range(source.model.passes_per_chunk - 1):
        source.run_pass("s")
    for one in ranges:
        copy[one.start : one.stop] = source.block("s")[one.start : one.stop]
    target.take_out("s")
    target.put_in(source.seats["s"].head, copy, 3)
    for host in (source, target):
        host.run_chunks(2, "s")
    np.testing.assert_array_equal(source.chunks["s", 7], target.chunks["s", 7])


@every_chunk_model
def test_who_joins_waits_for_a_pass_and_not_for_a_chunk(make: Make) -> None:
    host = Host(make())
    for name in ("early", "late"):
        host.open(host.head(name))
    host.run_pass("early")
    finished = [chunk.session for _ in range(host.model.passes_per_chunk) for chunk in host.run_pass("early", "late")]
    assert finished == ["early", "late"]


@every_chunk_model
def test_what_is_asked_during_a_chunk_holds_from_the_next_one(make: Make) -> None:
    told, untold = Host(make()), Host(make())
    for host in (told, untold):
        host.open(host.head("s", prompt="red circle moving up"))
        host.run_pass("s")
    told.ask("s", prompt="blue square", control="left")
    for host in (told, untold):
        for _ in range(2 * host.model.passes_per_chunk - 1):
            host.run_pass("s")
    np.testing.assert_array_equal(told.chunks["s", 0], untold.chunks["s", 0])
    assert not np.array_equal(told.chunks["s", 1], untold.chunks["s", 1])


@every_chunk_model
@pytest.mark.parametrize("change", [{"prompt": "blue square"}, {"control": "left"}, {"seed": 2}])
def test_every_part_of_a_head_tells_in_the_chunk(make: Make, change: dict[str, object]) -> None:
    host = Host(make())
    host.open(host.head("s"))
    host.open(msgspec.structs.replace(host.head("t"), **change))
    host.run_chunks(1, "s", "t")
    assert not np.array_equal(host.chunks["s", 0], host.chunks["t", 0])


@every_chunk_model
def test_a_lost_byte_of_the_past_tells_in_the_chunks_after_it(make: Make) -> None:
    host = Host(make())
    for name in ("s", "t"):
        host.open(host.head(name))
    host.run_chunks(6, "s", "t")
    np.testing.assert_array_equal(host.chunks["s", 5], host.chunks["t", 5])
    dirty = host.model.dirty(host.seats["t"].head)
    clean = next(one.stop for one in dirty)  # the first byte behind the first dirty range
    host.block("t")[clean : clean + 4096] = 0
    host.run_chunks(1, "s", "t")
    assert not np.array_equal(host.chunks["s", 6], host.chunks["t", 6])


@every_chunk_model
def test_an_opened_block_is_zero_whatever_it_was(make: Make) -> None:
    host = Host(make())
    host.open(host.head("s"))
    assert int(host.block("s").max()) == 0
    assert int(host.arena[host.block("s").numel()]) == host.dirt


@every_chunk_model
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"revision": "f" * 64}, "revision='ffffffffffff' wrote the block and this is '"),
        ({"profile": "c"}, "profile='c' must be one of a, b"),
        ({"seed": -1}, "seed=-1 must be >= 0"),
        ({"seed": SEED_MAX + 1}, "must be >= 0 and <= 9223372036854775807"),
        ({"chunk_number": -1}, "chunk_number=-1 and lineage=0 must be >= 0"),
        ({"session": "s" * 129}, "session has 129 characters"),
        ({"prompt": "x" * 4097}, "prompt has 4097 characters; it must have at most 4096"),
    ],
)
def test_a_strange_head_is_refused_before_anybody_advances(make: Make, change: dict[str, object], why: str) -> None:
    host = Host(make())
    host.open(host.head("s"))
    strange = msgspec.structs.replace(host.head("t"), **change)
    assert why in str(host.model.refusal(strange))
    with pytest.raises(RefusedError, match=strange.session[:5]):
        host.model.open(Seat(head=strange, offset=host.room))
    with pytest.raises(RefusedError):
        host.model.run_pass([host.seats["s"], Seat(head=strange, offset=host.room)])
    for _ in range(host.model.passes_per_chunk - 1):
        assert not host.run_pass("s")
    assert host.run_pass("s")


@every_chunk_model
def test_offsets_and_sizes_are_aligned(make: Make) -> None:
    model = make()
    assert all(profile.state_bytes % model.alignment_bytes == 0 for profile in model.profiles.values())
    assert len({profile.state_bytes for profile in model.profiles.values()}) == 2
