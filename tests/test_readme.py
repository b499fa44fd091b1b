"""What the documents tell people to type works, and their links lead somewhere.

Decides what counts as the quickstart, the console block under its heading, and as the live system, the one that begins
with `epochal serve`; must never know what they print.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.e2e.command import environment
from tests.ports import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def _quickstart_commands() -> list[str]:
    section = re.search(r"^## Quickstart\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert section, "README.md needs a section: ## Quickstart"
    block = re.search(r"^```console\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert block, "the quickstart needs a console block"
    return _commands_of(block[1])


def _live_commands() -> list[str]:
    block = re.search(r"^```console\n(\$ epochal serve .*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block, "README.md needs a console block that begins with epochal serve"
    return _commands_of(block[1])


def _commands_of(block: str) -> list[str]:
    return [line.removeprefix("$ ") for line in block.replace("\\\n", "").splitlines() if line.startswith("$ ")]


def _installed(line: str) -> list[str | Path]:
    name, *arguments = shlex.split(line, comments=True)
    return [Path(sys.executable).parent / name, *arguments]


def test_the_quickstart_runs_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = _quickstart_commands()
    assert commands
    for line in commands:
        done = subprocess.run(_installed(line), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_the_live_system_is_served_and_watched(tmp_path: Path) -> None:
    """At an address of its own; no browser is opened."""
    serve, film, page = _live_commands()
    address = f"127.0.0.1:{free_port()}"
    known = environment() | {"BROWSER": "true"}
    serving = subprocess.Popen(
        [*_installed(serve), "--http", address], cwd=tmp_path, env=known, stderr=subprocess.PIPE, text=True
    )
    try:
        assert serving.stderr is not None
        wanted = f"to watch a session, open http://{address} in a browser or run epochal client http://{address}\n"
        assert wanted in iter(serving.stderr.readline, "")
        for line in (film, page):
            command = [*_installed(line), f"http://{address}"]
            done = subprocess.run(
                command, cwd=tmp_path, env=known, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
            assert done.returncode in (0, 3), f"{line}\n{done.stdout}{done.stderr}"  # 3: on a busy machine it stalls
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
    finally:
        serving.terminate()
        serving.communicate()
    arguments = shlex.split(film, comments=True)
    with av.open(tmp_path / arguments[arguments.index("-o") + 1], "r") as container:
        stream = container.streams.video[0]
        frames, rate = sum(1 for _ in container.decode(stream)), stream.average_rate
    assert rate is not None
    assert frames / rate >= float(arguments[arguments.index("--seconds") + 1])


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/benchmarking.md"])
def test_each_make_target_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"^\$ make ([a-z]+)", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE))
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= defined


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_local_link_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if not (path.parent / link).exists()]
    assert not missing
