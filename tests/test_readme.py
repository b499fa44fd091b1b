"""What the documents tell people to type works, and their links lead somewhere.

Decides what counts as the quickstart: the console block under its heading; must never know what it prints.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


def _quickstart_commands() -> list[str]:
    section = re.search(r"^## Quickstart\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert section, "README.md needs a section: ## Quickstart"
    block = re.search(r"^```console\n(.*?)^```", section[1], re.MULTILINE | re.DOTALL)
    assert block, "the quickstart needs a console block"
    return [line.removeprefix("$ ") for line in block[1].replace("\\\n", "").splitlines() if line.startswith("$ ")]


def test_the_quickstart_runs_in_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = _quickstart_commands()
    assert commands
    for line in commands:
        name, *arguments = shlex.split(line)
        installed = Path(sys.executable).parent / name
        done = subprocess.run([installed, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


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
