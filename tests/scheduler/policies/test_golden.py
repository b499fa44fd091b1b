"""Figures of small runs stay what they are until somebody means to change them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scheduler.policies.registry import POLICIES
from tests.scheduler.policies.golden_runs import FOLDER, path_of, summaries

RENEW = "python -m tests.scheduler.policies.golden_runs"


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, part in value.items() for key, leaf in flat(part, f"{path}/{name}").items()}


@pytest.mark.parametrize("name", POLICIES)
def test_summaries_are_those_on_file(name: str) -> None:
    kept, found = flat(json.loads(path_of(name).read_text(encoding="utf-8"))), flat(summaries(name))
    differ = {key: (kept.get(key), found.get(key)) for key in kept.keys() | found.keys() if not _same(kept, found, key)}
    assert not differ, f"if that is meant: {RENEW} {name}"


def test_every_file_is_of_a_policy() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(POLICIES)


def _same(kept: dict[str, Any], found: dict[str, Any], key: str) -> bool:
    one, other = kept.get(key), found.get(key)
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-9, abs=1e-9)
    return bool(one == other)
