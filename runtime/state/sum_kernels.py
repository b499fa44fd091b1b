"""The checksum's arithmetic on a processor, compiled: granules are summed as they are read, or as they are copied.

Decides how 64-bit words become one sum per granule and one digest; must never know a tensor or who owns a block.
In plain torch and numpy the same sums cost about as much as copying the bytes once more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvers.numba_kernel import inner, kernel

Words = NDArray[np.uint64]


@inner
def _mix(word: np.uint64) -> np.uint64:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): one to one, and every bit depends on every other."""
    mixed = word * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@inner
def _settle(sum_of_granule: np.uint64, index: int, mixed: Words, at: int) -> np.uint64:
    """Note one granule's part of the digest, and tell by how much it changes the digest."""
    part = _mix(sum_of_granule ^ _mix(np.uint64(index + 1)))
    change: np.uint64 = part - mixed[at]
    mixed[at] = part
    return change


@kernel
def weights_of(count: int) -> Words:
    """Odd weights of a granule's words, by place."""
    weights = np.empty(count, np.uint64)
    for place in range(count):
        weights[place] = _mix(np.uint64(place + 1)) | np.uint64(1)
    return weights


@kernel
def of_zeros(mixed: Words) -> np.uint64:
    """Note the parts of granules of zeros, and tell their digest."""
    digest = np.uint64(0)
    for index in range(mixed.size):
        mixed[index] = _mix(_mix(np.uint64(index + 1)))
        digest += mixed[index]
    return digest


@kernel
def add_words(words: Words, weights: Words, first: int, mixed: Words) -> np.uint64:
    """Sum `words` [granules, words], which begin at granule `first`; returns the change of the digest."""
    change = np.uint64(0)
    for granule in range(words.shape[0]):
        total = np.uint64(0)
        for place in range(words.shape[1]):
            total += words[granule, place] * weights[place]
        change += _settle(total, first + granule, mixed, granule)
    return change


@kernel
def copy_words(words: Words, target: Words, weights: Words, first: int, mixed: Words) -> np.uint64:
    """The same, and copy them: the bytes are read from memory once."""
    change = np.uint64(0)
    for granule in range(words.shape[0]):
        total = np.uint64(0)
        for place in range(words.shape[1]):
            word = words[granule, place]
            target[granule, place] = word
            total += word * weights[place]
        change += _settle(total, first + granule, mixed, granule)
    return change


@kernel
def add_sums(sums: Words, first: int, mixed: Words) -> np.uint64:
    """Sums of granules that were computed elsewhere."""
    change = np.uint64(0)
    for granule in range(sums.size):
        change += _settle(sums[granule], first + granule, mixed, granule)
    return change
