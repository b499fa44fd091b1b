"""What docs/protocol.md says of messages and limits is what the code has.

Decides where a message and a limit stand on that page; must never know what either is for.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from runtime.gateway import messages as gateway
from runtime.transfer import rounds
from runtime.transfer.messages import Migrating, MigrationReport
from runtime.worker import messages as sessions
from runtime.worker.process import messages as worker

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text(encoding="utf-8")
UNIONS: dict[str, Any] = {
    "Controller to worker": worker.FromController | sessions.Desired | Migrating,
    "Worker to controller": worker.FromWorker | sessions.Report | MigrationReport,
    "Gateway and worker": worker.FromGateway | worker.ToGateway | sessions.StreamReport,
    "Gateway to controller": gateway.FromGateway,
    "Controller to gateway": gateway.ToGateway,
    "A hand-over": rounds.Round | rounds.Whole | rounds.Alive | rounds.Verdict,
}
LIMITS = re.findall(r"^\| `(runtime\.[\w.]+)\.([A-Z_]+)` \| ([\d.,]+) \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("section", UNIONS)
def test_each_message_of_a_direction_is_told_in_its_section(section: str) -> None:
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"docs/protocol.md needs a section: ## {section}"
    names = {message.__name__ for message in get_args(UNIONS[section])}
    assert names - set(re.findall(r"`(\w+)`", found[1])) == set()


def test_no_message_is_in_no_section() -> None:
    """A new one is in one of the unions, or is only part of another message."""
    told = {message for union in UNIONS.values() for message in get_args(union)}
    tagged = {
        value
        for module in (gateway, rounds, sessions, worker, import_module("runtime.transfer.messages"))
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value.__struct_config__.tag is not None
    }
    assert tagged == told


@pytest.mark.parametrize(("module", "name", "value"), LIMITS)
def test_each_limit_is_that_of_the_code(module: str, name: str, value: str) -> None:
    assert getattr(import_module(module), name) == float(value.replace(",", ""))


def test_limits_are_found() -> None:
    assert len(LIMITS) == PAGE.count("\n| `runtime.")


def test_the_protocol_number_is_that_of_the_code() -> None:
    assert f"say {worker.PROTOCOL} (" in PAGE
    assert worker.PROTOCOL == gateway.PROTOCOL
