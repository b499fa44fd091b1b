"""What does not fit is refused at the start, in numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runtime.chunk_models.chunk_model import ChunkProfile
from runtime.state.blocks import MIB
from runtime.worker.process.memory import Given, Sizes, chunks_bytes, sizes
from traces.errors import BadInputError

PROFILES = tuple(
    ChunkProfile(name=name, width=side, height=side, frames=4, frames_per_s=8.0, state_bytes=states * MIB)
    for name, side, states in (("small", 64, 3), ("large", 128, 10))
)
GIVEN = Given(device=100 * MIB, host=50 * MIB, device_there=120 * MIB, host_there=60 * MIB, shared=False)


def test_states_get_what_the_model_and_the_chunks_leave() -> None:
    on_their_way = chunks_bytes(PROFILES, 8)
    assert on_their_way == 2 * 2 * 4 * 128 * 128 * 3 * 8
    assert sizes(GIVEN, 30 * MIB, PROFILES, 8) == Sizes(device_bytes=70 * MIB, host_bytes=50 * MIB - on_their_way)


@pytest.mark.parametrize(
    ("given", "workspace_mib", "sessions_max", "expected"),
    [
        (
            GIVEN,
            91,
            8,
            "--device-memory-mib: 100.0 MiB are too few: the ChunkModel's weights and passes need 91.0 MiB "
            "and one session of large needs 10.0 MiB",
        ),
        (
            GIVEN,
            30,
            64,
            "--host-memory-mib: 50.0 MiB are too few: chunks on their way may take 48.0 MiB (--sessions-max 64), "
            "and one state of large takes 10.0 MiB",
        ),
        (
            replace(GIVEN, device=121 * MIB),
            30,
            8,
            "--device-memory-mib: 121.0 MiB on the device, where 120.0 MiB are free",
        ),
        (replace(GIVEN, host=61 * MIB), 30, 8, "--host-memory-mib: 61.0 MiB in host memory, where 60.0 MiB are free"),
        (
            replace(GIVEN, shared=True),
            30,
            8,
            "--device-memory-mib and --host-memory-mib: 150.0 MiB together, as the device is the host, "
            "where 60.0 MiB are free",
        ),
    ],
)
def test_too_little_is_told_in_numbers(given: Given, workspace_mib: int, sessions_max: int, expected: str) -> None:
    with pytest.raises(BadInputError) as caught:
        sizes(given, workspace_mib * MIB, PROFILES, sessions_max)
    assert str(caught.value) == expected
