"""What a prompt says to the network: one word of each kind.

Decides which words are known and what is meant where a prompt is silent; must never know a network or a cache.
"""

from __future__ import annotations

import re

COLOURS = {
    "red": (0.92, 0.18, 0.18),
    "green": (0.20, 0.80, 0.30),
    "blue": (0.25, 0.40, 0.98),
    "yellow": (0.97, 0.85, 0.20),
    "magenta": (0.88, 0.30, 0.85),
    "cyan": (0.20, 0.85, 0.90),
}
SHAPES = ("circle", "square", "triangle")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}  # steps in y and x
BACKGROUNDS = {"black": (0.05, 0.05, 0.08), "white": (0.93, 0.93, 0.90), "grey": (0.45, 0.47, 0.50)}

_KINDS: tuple[tuple[str, ...], ...] = (tuple(COLOURS), SHAPES, tuple(DIRECTIONS), tuple(BACKGROUNDS))
_SPELLINGS = {"gray": "grey"}

VOCABULARY = tuple(word for kind in _KINDS for word in kind)
WORDS_PER_PROMPT = len(_KINDS)


def word_numbers(prompt: str, seed: int) -> tuple[int, ...]:
    """The numbers in `VOCABULARY` of a colour, a shape, a direction and a background.

    The first known word of each kind counts and all others are passed over: any text is a prompt. A kind of which it
    says nothing is decided by the seed, so that the answer is the same for every chunk.
    """
    said = [_SPELLINGS.get(word, word) for word in re.findall(r"[a-z]+", prompt.lower())]
    numbers = []
    for kind in _KINDS:
        found = next((word for word in said if word in kind), None)
        seed, choice = divmod(seed, len(kind))
        numbers.append(VOCABULARY.index(found or kind[choice]))
    return tuple(numbers)


def words(numbers: tuple[int, ...]) -> tuple[str, ...]:
    """A colour, a shape, a direction and a background, in that order."""
    return tuple(VOCABULARY[number] for number in numbers)
