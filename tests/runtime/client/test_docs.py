"""The example of docs/client.md does what it shows."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.e2e.command import ROOT, environment
from tests.runtime.client.films import CHUNK_S, a_film
from tests.runtime.gateway.live import a_place
from tests.runtime.gateway.stage import PATIENCE_S


def test_the_example_runs() -> None:
    text = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    block = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block
    with a_place() as place:
        place.stage.body = a_film("mjpeg")
        code = block[1].replace("127.0.0.1:8000", f"{place.host}:{place.port}")
        assert code != block[1]
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        assert (done.returncode, done.stderr) == (0, "")
        lines = [line.split() for line in done.stdout.splitlines()]
        assert [int(line[0]) for line in lines] == list(range(len(lines)))
        assert len(lines) >= 25
        assert {(line[1], line[2], float(line[3])) for line in lines} == {("0", "False", CHUNK_S)}
        (prompt,) = place.stage.prompts.values()
        assert prompt == (1, "blue square")
