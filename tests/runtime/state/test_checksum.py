"""Whatever happens to bytes on their way changes their checksum, and it is the same however it is computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from runtime.state import checksum, sum_kernels
from runtime.state.checksum import GranuleSums, digest
from runtime.state.ranges import GRANULE_BYTES, Range

_MASK = 2**64 - 1


def bytes_of(granules: int, seed: int = 1) -> Tensor:
    return torch.randint(
        0, 256, (granules * GRANULE_BYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def naive_mix(word: int) -> int:
    word = word * 0x9E3779B97F4A7C15 & _MASK
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & _MASK
    return word ^ word >> 31


def naive_digest(data: bytes, first: int = 0) -> int:
    """Of granules of which the first has this index."""
    total = 0
    for index in range(len(data) // GRANULE_BYTES):
        granule = data[index * GRANULE_BYTES : (index + 1) * GRANULE_BYTES]
        words = [int.from_bytes(granule[at : at + 8], "little") for at in range(0, GRANULE_BYTES, 8)]
        summed = sum(word * (naive_mix(place) | 1) for place, word in enumerate(words, 1)) & _MASK
        total += naive_mix(summed ^ naive_mix(first + index + 1))
    return total & _MASK


@given(st.integers(0, 5), st.integers(0, 2**32))
def test_it_is_what_its_definition_says(granules: int, seed: int) -> None:
    memory = bytes_of(granules, seed)
    assert digest(memory) == naive_digest(memory.numpy().tobytes())


def test_sums_of_elementwise_products_give_the_same_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_PIECE_GRANULES", 8)
    memory = bytes_of(2 * 8 + 3)
    mixed = np.empty(2 * 8 + 3, np.uint64)
    total = int(sum_kernels.of_zeros(mixed))
    total += int(sum_kernels.add_sums(checksum.granule_sums(memory).numpy().view(np.uint64), 0, mixed))
    assert total % 2**64 == digest(memory)


def test_what_is_copied_is_summed_on_its_way_and_nothing_else_is_touched() -> None:
    memory, target = bytes_of(9), bytes_of(9, 2)
    expected, span = target.clone(), Range(2 * GRANULE_BYTES, 5 * GRANULE_BYTES)
    expected[span.start : span.end] = memory[span.start : span.end]
    sums = GranuleSums(memory.numel())
    sums.copy(memory, target, span)
    assert torch.equal(target, expected)
    assert sums.digest() == digest(memory, (span,))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_device_computes_the_same_digest() -> None:
    memory = bytes_of(1000)
    assert digest(memory.cuda()) == digest(memory)


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_a_granule_changes_its_sum(bit: int) -> None:
    """One copy of the granule for each of its bytes, with one bit of that byte flipped."""
    granule = bytes_of(1)
    copies = granule.repeat(GRANULE_BYTES, 1)
    copies.diagonal().bitwise_xor_(1 << bit)
    assert not (checksum.granule_sums(copies.view(-1)) == checksum.granule_sums(granule)).any()


@given(st.integers(0, 3 * GRANULE_BYTES - 1), st.integers(0, 7))
def test_a_flipped_bit_changes_the_digest(at: int, bit: int) -> None:
    memory = bytes_of(3)
    right = digest(memory)
    memory[at] ^= 1 << bit
    assert digest(memory) != right
    memory[at] ^= 1 << bit
    assert digest(memory) == right


@given(st.data())
def test_swapped_blocks_are_seen(data: st.DataObject) -> None:
    """Also where they differ in one bit, as long as they are whole granules."""
    size = data.draw(st.sampled_from([1, 2, 4]))
    granules = 12
    memory = bytes_of(granules, data.draw(st.integers(0, 3)))
    one, other = data.draw(st.lists(st.integers(0, granules // size - 1), min_size=2, max_size=2, unique=True))
    a = memory[one * size * GRANULE_BYTES : (one + 1) * size * GRANULE_BYTES]
    b = memory[other * size * GRANULE_BYTES : (other + 1) * size * GRANULE_BYTES]
    if data.draw(st.booleans()):
        b.copy_(a)
        b[data.draw(st.integers(0, len(b) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    right = digest(memory)
    kept = a.clone()
    a.copy_(b)
    b.copy_(kept)
    assert digest(memory) != right


@given(st.integers(0, 3), st.permutations(range(9)), st.integers(0, 8))
def test_pieces_in_any_order_and_summed_again_give_the_digest_of_the_whole(
    seed: int, order: list[int], changed: int
) -> None:
    memory = bytes_of(9, seed)
    sums = GranuleSums(memory.numel())
    spans = [Range(at * GRANULE_BYTES, (at + 1) * GRANULE_BYTES) for at in range(9)]
    for at in order:
        sums.add(memory, spans[at])
    assert sums.digest() == digest(memory)
    memory[changed * GRANULE_BYTES + 17] += 1
    assert sums.digest() != digest(memory)
    sums.add(memory, spans[changed])
    assert sums.digest() == digest(memory)


def test_missing_and_moved_bytes_are_seen() -> None:
    memory = bytes_of(4)
    right = digest(memory)
    assert digest(memory.roll(1)) != right
    assert digest(memory.roll(8)) != right
    assert digest(memory.roll(GRANULE_BYTES)) != right
    without = memory.clone()
    without[GRANULE_BYTES : 2 * GRANULE_BYTES] = 0
    assert digest(without) != right
    assert digest(bytes_of(3)) != digest(torch.cat([bytes_of(3), torch.zeros(GRANULE_BYTES, dtype=torch.uint8)]))
