"""One gateway for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.runtime.gateway.live import ADMIN_TOKEN, Place, a_place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    token = tmp_path_factory.mktemp("operator") / "token"
    token.write_text(ADMIN_TOKEN + "\n")
    options = ("--grace-s", "1", "--slow-s", "2", "--admin-token-file", str(token), "--origin", "https://app.example")
    with a_place(*options) as found:
        yield found
