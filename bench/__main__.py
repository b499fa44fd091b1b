"""`python -m bench [NAME...]`: run benchmarks, print their tables, fail if a gate fails.

Decides which benchmarks run and the exit code (0 all gates hold, 1 a gate fails, 2 unknown name); must never know what
one measures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import get_args

from rich.console import Console

from bench.registry import BENCHMARKS
from bench.render import Format, show
from bench.result import Benchmark, BenchResult, Size


def main(arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS) -> int:
    """Run the named benchmarks, or all, one after another; results on stdout, progress on stderr."""
    options = _parser(benchmarks).parse_args(arguments)
    names: list[str] = options.names or list(benchmarks)
    results: list[BenchResult] = []
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in names:
        begun_s = time.monotonic()
        result = benchmarks[name](options.size)
        results.append(result)
        print(f"{name} ({options.size}): {time.monotonic() - begun_s:.1f} s", file=sys.stderr)
        if options.format == "table":
            show([result], "table", console)
    if options.format != "table":
        show(results, options.format, console)
    return _verdict(results)


def _verdict(results: Sequence[BenchResult]) -> int:
    failed = [
        f"{result.name}: {gate.claim} (measured: {gate.measured})"
        for result in results
        for gate in result.gates
        if not gate.ok
    ]
    for line in failed:
        print(f"gate failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _parser(benchmarks: Mapping[str, Benchmark]) -> argparse.ArgumentParser:
    known = ", ".join(benchmarks)

    def known_name(name: str) -> str:
        if name not in benchmarks:
            raise argparse.ArgumentTypeError(f"NAME={name} must be one of {known}")
        return name

    parser = argparse.ArgumentParser(prog="python -m bench", description="Run benchmarks; exit 1 if a gate fails.")
    parser.add_argument("names", nargs="*", metavar="NAME", type=known_name, help=f"one of {known}; default: all")
    parser.add_argument("--size", choices=get_args(Size), default="standard", help="small takes seconds")
    parser.add_argument("--format", choices=get_args(Format), default="table", help="of the results on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
