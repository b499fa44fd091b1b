"""What a session's head and place mean in numbers: prompts, noise, starts and rotations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from runtime.chunk_models.chunk_model import SEED_MAX
from runtime.chunk_models.transformer.configuration import Configuration
from runtime.chunk_models.transformer.network import frames_of, patches_of
from runtime.chunk_models.transformer.noise import noise_of, start_of
from runtime.chunk_models.transformer.positions import PERIOD_FRAMES, rotated, rotations, timeless
from runtime.chunk_models.transformer.prompts import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES, word_numbers, words

SIZES = Configuration()
SMALL, LARGE = SIZES.resolutions


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A RED circle, moving Up on black!", ("red", "circle", "up", "black")),
        ("white background: a cyan triangle goes left", ("cyan", "triangle", "left", "white")),
        ("blue square down gray", ("blue", "square", "down", "grey")),
        ("red green circle square left right black white", ("red", "circle", "left", "black")),
    ],
)
def test_the_first_known_word_of_each_kind_counts(prompt: str, expected: tuple[str, ...]) -> None:
    assert words(word_numbers(prompt, seed=5)) == expected


@given(prompt=st.text(max_size=40), seed=st.integers(0, SEED_MAX))
def test_any_text_is_a_prompt(prompt: str, seed: int) -> None:
    said = words(word_numbers(prompt, seed))
    kinds: tuple[tuple[str, ...], ...] = tuple(map(tuple, (COLOURS, SHAPES, DIRECTIONS, BACKGROUNDS)))
    assert all(word in kind for word, kind in zip(said, kinds, strict=True))
    assert said == words(word_numbers(prompt, seed))


def test_what_a_prompt_leaves_open_differs_from_seed_to_seed() -> None:
    said = {words(word_numbers("a triangle", seed)) for seed in range(6 * 3 * 4 * 3)}
    assert len(said) == 6 * 4 * 3
    assert {shape for _, shape, _, _ in said} == {"triangle"}


def test_noise_is_a_function_of_seed_chunk_and_pass() -> None:
    drawn = [
        noise_of(SIZES, SMALL, seed, chunk, level)
        for seed in (0, 1, SEED_MAX)
        for chunk in (0, 1, 2**31)
        for level in (0, 1)
    ]
    assert all(not torch.equal(a, b) for index, a in enumerate(drawn) for b in drawn[:index])
    assert torch.equal(drawn[3], noise_of(SIZES, SMALL, 0, 1, 1))
    assert abs(float(torch.stack(drawn).mean())) < 0.02
    assert abs(float(torch.stack(drawn).std()) - 1) < 0.02


def test_starts_leave_room_for_the_shape() -> None:
    starts = torch.stack([start_of(LARGE, seed) for seed in range(500)])
    assert float(starts.min()) >= LARGE.height * 0.27
    assert float(starts.max()) <= LARGE.height * 0.73
    assert float(starts.std(dim=0).min()) > LARGE.height * 0.1


@given(first=st.integers(0, 10**12), apart=st.integers(0, 9))
def test_what_a_query_makes_of_a_key_depends_on_how_far_apart_they_are(first: int, apart: int) -> None:
    chance = torch.Generator().manual_seed(0)
    shape = (SIZES.tokens_per_chunk(SMALL), SIZES.heads, SIZES.head_dim)
    query, key = (torch.randn(shape, generator=chance) for _ in range(2))

    def scores(begin: int) -> torch.Tensor:
        turned = rotated(query, *rotations(SIZES, SMALL, begin + apart))
        return torch.einsum("qhd,khd->hqk", turned, rotated(key, *rotations(SIZES, SMALL, begin)))

    assert torch.allclose(scores(first), scores(0), atol=1e-3)


def test_a_sinks_keys_say_the_same_at_any_distance_in_time() -> None:
    chance = torch.Generator().manual_seed(0)
    shape = (SIZES.tokens_per_chunk(SMALL), SIZES.heads, SIZES.head_dim)
    query, key = (torch.randn(shape, generator=chance) for _ in range(2))
    sink = rotated(key, *rotations(SIZES, SMALL, 0)) * timeless(SIZES)
    scores = [
        torch.einsum("qhd,khd->hqk", rotated(query, *rotations(SIZES, SMALL, begin)), sink)
        for begin in range(0, PERIOD_FRAMES, 5)
    ]
    assert all(torch.allclose(one, scores[0], atol=1e-4) for one in scores)


def test_frames_come_back_from_their_patches() -> None:
    frames = torch.randn(2, 3, 3, 16, 24)
    patches = patches_of(frames, 8)
    assert patches.shape == (2, 3, 6, 192)
    assert torch.equal(patches[0, 0, 4], frames[0, 0, :, 8:16, 8:16].reshape(-1))
    assert torch.equal(frames_of(patches, 8, 16, 24), frames)
