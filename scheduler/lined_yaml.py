"""YAML with the line of every key, so that a finding can point at it.

Decides what text is readable YAML with unique text keys; must never know what the keys mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from traces.errors import BadInputError, Finding

NODES_MAX = 200_000  # after expanding aliases; a fleet of thousands of profiles stays far below

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinedYaml:
    """The data of one document, the line of each key and list entry, and what is wrong with its keys."""

    data: Any
    lines: dict[KeyPath, int]
    findings: tuple[Finding, ...]

    def line_of(self, path: KeyPath) -> int | None:
        """The line of the nearest enclosing key that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def read_yaml(path: Path) -> LinedYaml:
    """Read one document. Raises `BadInputError` where there is no file, no UTF-8 or no YAML."""
    return parse_yaml(read_utf8(path), str(path))


def read_utf8(path: Path) -> str:
    """The text of a file; raises `BadInputError` naming the line of the first byte that is not UTF-8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError.of(
            str(path), f"cannot be read: {error.strerror}; give the path of a readable file"
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInputError.of(
            str(path), f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8", line
        ) from None


def parse_yaml(text: str, source: str) -> LinedYaml:
    """Parse one document. Raises `BadInputError` where it is no YAML; wrong keys are collected as findings."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        reader = _Reader(loader, source)
        data = None if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise BadInputError.of(source, f"must be YAML: {error.problem or error.context}", line) from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadInputError.of(source, f"must be YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise BadInputError.of(source, "is nested too deeply; a key lies at most a few levels deep") from None
    return LinedYaml(data=data, lines=reader.lines, findings=tuple(reader.findings))


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes 1e3 for a number as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _Reader:
    """Walks the node tree once, keeping lines and findings on the way."""

    def __init__(self, loader: _Loader, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.findings: list[Finding] = []
        self._loader = loader
        self._source = source
        self._nodes = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise ValueError(f"more than {NODES_MAX} values; aliases that multiply are refused")
        if isinstance(node, yaml.MappingNode):
            return {key: self.value(child, (*path, key)) for key, child in self._pairs(node, path)}
        if isinstance(node, yaml.SequenceNode):
            for index, child in enumerate(node.value):
                self.lines.setdefault((*path, index), child.start_mark.line + 1)
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> Iterator[tuple[str, yaml.Node]]:
        """The first value of each key in the order of the file; keys merged with << come first and give way."""
        own = [pair for pair in node.value if pair[0].tag != "tag:yaml.org,2002:merge"]
        pairs: dict[str, yaml.Node] = {}
        if len(own) < len(node.value):
            self._loader.flatten_mapping(node)
            pairs = {str(key.value): child for key, child in node.value}
        seen: dict[str, int] = {}
        for key_node, child in own:
            line = key_node.start_mark.line + 1
            key = self._loader.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                name = key_node.value if isinstance(key_node, yaml.ScalarNode) else key
                self._find(f"key {name} must be text; quote it", path, line)
                continue
            if key in seen:
                self._find(f"{dotted((*path, key))} is given twice, first in line {seen[key]}; keep one", (), line)
                continue
            seen[key] = line
            self.lines[(*path, key)] = line
            pairs[key] = child
        yield from pairs.items()

    def _find(self, message: str, path: KeyPath, line: int) -> None:
        text = f"{dotted(path)}: {message}" if path else message
        self.findings.append(Finding(source=self._source, message=text, line=line))


def dotted(path: KeyPath) -> str:
    """`profiles.wan.latency_ms.h100[2]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
