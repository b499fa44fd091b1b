"""The lock files and pyproject.toml say the same.

Decides when a lock is stale; must never need a network.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = {"base": [], "dev": ["dev", "png", "ray"]}  # lock -> the extras that it holds
_PIN = re.compile(
    r"^(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?==(?P<version>\S+) \\\n(?P<rest>(?:    .+\n)+)", re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of a lock."""

    version: str
    hashes: int
    direct: bool  # asked for by pyproject.toml itself, not by another package


def _lock_text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text()


def _pins(lock: str) -> dict[str, Pin]:
    return {
        found["name"]: Pin(
            version=found["version"],
            hashes=found["rest"].count("--hash=sha256:"),
            direct="epochal (pyproject.toml" in found["rest"],
        )
        for found in _PIN.finditer(_lock_text(lock))
    }


def _wanted(lock: str) -> dict[str, Requirement]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in LOCKS[lock]:
        lines += project["project"]["optional-dependencies"][extra]
    wanted: dict[str, Requirement] = {
        canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)
    }
    wanted.pop(canonicalize_name(project["project"]["name"]), None)  # an extra that names another extra
    return wanted


@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_of_pyproject_is_pinned_to_a_version_that_it_allows(lock: str) -> None:
    pins = _pins(lock)
    unmet = [
        str(requirement)
        for name, requirement in _wanted(lock).items()
        if name not in pins or not requirement.specifier.contains(pins[name].version)
    ]
    assert not unmet, f"requirements/{lock}.txt is stale, run: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_pin_that_pyproject_no_longer_asks_for_is_noticed(lock: str) -> None:
    build_backend_asks_for = {"editables"}
    left_over = {name for name, pin in _pins(lock).items() if pin.direct} - set(_wanted(lock)) - build_backend_asks_for
    assert not left_over, f"requirements/{lock}.txt is stale, run: make lock"


@pytest.mark.parametrize("lock", LOCKS)
def test_each_pin_carries_hashes(lock: str) -> None:
    assert all(pin.hashes for pin in _pins(lock).values())
    names = re.findall(r"^[A-Za-z]\S*", _lock_text(lock), re.MULTILINE)
    assert len(names) == len(_pins(lock)), "a line of the lock is not a pin with hashes"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_records_no_address_and_no_path(lock: str) -> None:
    assert not re.search(r"://|@|--(index|find|extra|trusted)|(?<!\w)/\w", _lock_text(lock))


def test_users_and_developers_run_the_same_versions() -> None:
    base, dev = _pins("base"), _pins("dev")
    assert {name: pin.version for name, pin in base.items()}.items() <= {n: p.version for n, p in dev.items()}.items()


def test_torch_has_a_step_of_its_own_and_the_base_installation_none_of_it() -> None:
    """Its wheel for CPUs has another hash than that of the public index, so that no lock can hold it."""
    assert not {"torch", "pyzmq", "av"} & set(_pins("base"))
    assert "torch" not in _pins("dev")
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["runtime"]
    torch = next(line for line in wanted if line.startswith("torch"))
    assert f"TORCH ?= {torch}" in (ROOT / "Makefile").read_text()
