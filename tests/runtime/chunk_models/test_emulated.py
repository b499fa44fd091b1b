"""The emulated ChunkModel takes the fleet's time, and its chunks prove what was carried."""

from __future__ import annotations

import hashlib
import time

import msgspec
import pytest
import torch

from runtime.chunk_models.chunk_model import RefusedError, Seat
from runtime.chunk_models.emulated import EmulatedChunkModel, mark_of, seal_of
from tests.builders import a_fleet
from tests.runtime.chunk_models.hosts import TINY_FLEET, Host, an_emulation


def test_a_pass_takes_its_share_of_the_batch_of_this_content() -> None:
    slept: list[float] = []
    host = Host(an_emulation(slept.append))
    for name, profile in (("s", "a"), ("t", "a"), ("u", "b")):
        host.open(host.head(name, profile))
    host.run_pass("s")
    host.run_pass("s", "t")
    host.run_pass("s", "t", "u")
    assert [round(seconds * 3000) for seconds in slept] == [4, 8, 8 + 8]


def test_a_content_without_a_latency_is_refused_before_anybody_advances() -> None:
    host = Host(EmulatedChunkModel(a_fleet(), "h100", lambda _: None, passes_per_chunk=1, state_share=2**-20))
    sessions = ["s0", "s1", "s2", "s3"]
    for name in sessions:
        host.open(host.head(name))
    with pytest.raises(RefusedError, match="the fleet has no latency for 4 of a on h100: run fewer at once"):
        host.run_pass(*sessions)
    assert [chunk.number for chunk in host.run_pass(*sessions[:3])] == [0, 0, 0]


def test_states_are_the_fleets_times_a_share() -> None:
    model = EmulatedChunkModel(a_fleet(), "h100", lambda _: None)
    assert model.profiles["a"].state_bytes == 4 * 2**20
    assert model.profiles["a"].chunk_s == 1.0


def test_a_seal_names_what_the_chunk_read_and_which_it_is() -> None:
    host = Host(an_emulation())
    host.open(host.head("s", prompt="red circle"))
    host.run_chunks(1, "s")
    host.ask("s", prompt="blue square", control="left")
    host.run_chunks(1, "s")
    first, second = (seal_of(host.chunks["s", number]) for number in (0, 1))
    assert (first.number, first.prompt, first.control) == (0, mark_of("red circle"), mark_of(""))
    assert (second.number, second.prompt, second.control) == (1, mark_of("blue square"), mark_of("left"))
    assert first.history != second.history


def test_one_other_control_changes_every_later_history() -> None:
    host = Host(an_emulation())
    for name in ("s", "t"):
        host.open(host.head(name))
    host.run_chunks(2, "s", "t")
    host.ask("t", control="left")
    host.run_chunks(1, "s", "t")
    host.ask("t", control="")
    host.run_chunks(8, "s", "t")
    same = [seal_of(host.chunks["s", n]).history == seal_of(host.chunks["t", n]).history for n in range(11)]
    assert same == [True] * 2 + [False] * 9


def test_with_all_words_read_no_byte_of_the_past_can_be_lost() -> None:
    fleet = a_fleet(TINY_FLEET)
    host = Host(EmulatedChunkModel(fleet, "h100", lambda _: None, passes_per_chunk=1, state_share=1.0, words_read=None))
    for name in ("s", "t"):
        host.open(host.head(name))
    host.run_chunks(5, "s", "t")
    dirty = host.model.dirty(host.seats["t"].head)
    size = host.block("t").numel()
    changed = 0
    for byte in range(0, size, 251):
        if any(one.start <= byte < one.stop for one in dirty):
            continue
        copy, head = host.block("t").clone(), host.seats["t"].head
        host.block("t")[byte] ^= 1
        host.run_chunks(1, "t")
        with_change = seal_of(host.chunks["t", 5])
        host.block("t").copy_(copy)
        host.seats["t"] = Seat(head=head, offset=host.seats["t"].offset)
        host.run_chunks(1, "t")
        assert with_change.history != seal_of(host.chunks["t", 5]).history
        host.block("t").copy_(copy)
        host.seats["t"] = Seat(head=head, offset=host.seats["t"].offset)
        changed += 1
    assert changed > 20


def test_another_state_size_is_another_revision() -> None:
    small, large = (
        EmulatedChunkModel(a_fleet(), "h100", lambda _: None, state_share=share) for share in (0.001, 0.002)
    )
    head = msgspec.structs.replace(Host(an_emulation()).head("s"), revision=small.revision)
    assert small.refusal(head) is None
    assert "run workers with the same weights, configuration, torch and --threads" in str(large.refusal(head))


def test_a_chunk_costs_little_beside_its_sleep() -> None:
    """Hundreds of workers share two cores: a chunk of 4 MiB of state and 4 passes must take far less than it sleeps."""
    model = EmulatedChunkModel(a_fleet(), "h100", lambda _: None)
    host = Host(model)
    host.open(host.head("s"))
    host.run_chunks(4, "s")
    begun = time.process_time()
    host.run_chunks(50, "s")
    per_chunk_s = (time.process_time() - begun) / 50
    assert per_chunk_s < 0.02, f"{per_chunk_s * 1000:.2f} ms; a chunk of this profile sleeps 100 ms"
    assert hashlib.sha256(host.block("s").numpy().tobytes()).digest() != hashlib.sha256(bytes(4 * 2**20)).digest()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_blocks_may_lie_on_a_gpu() -> None:
    host, device = Host(an_emulation()), Host(an_emulation())
    device.arena = device.arena.cuda()
    device.model = an_emulation()
    device.model.bind(device.arena)
    for one in (host, device):
        one.open(one.head("s"))
        one.run_chunks(6, "s")
    assert seal_of(host.chunks["s", 5]) == seal_of(device.chunks["s", 5])
