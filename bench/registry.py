"""The benchmarks there are.

Decides under which name a benchmark is found; must never import one before it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.result import Benchmark, BenchResult, Size


def _start(size: Size) -> BenchResult:
    from bench.start import run

    return run(size)


def _trace_store(size: Size) -> BenchResult:
    from bench.trace_store import run

    return run(size)


def _offline(size: Size) -> BenchResult:
    from bench.offline import run

    return run(size)


def _residency(size: Size) -> BenchResult:
    from bench.residency import run

    return run(size)


def _solve_scaling(size: Size) -> BenchResult:
    from bench.solve_scaling import run

    return run(size)


def _forecast(size: Size) -> BenchResult:
    from bench.forecast import run

    return run(size)


def _headroom(size: Size) -> BenchResult:
    from bench.headroom import run

    return run(size)


def _simulate(size: Size) -> BenchResult:
    from bench.simulate import run

    return run(size)


def _compare(size: Size) -> BenchResult:
    from bench.compare import run

    return run(size)


def _runtime(size: Size) -> BenchResult:
    from bench.runtime import run

    return run(size)


def _runtime_batches(size: Size) -> BenchResult:
    from bench.runtime_batches import run

    return run(size)


def _runtime_neighbours(size: Size) -> BenchResult:
    from bench.runtime_neighbours import run

    return run(size)


def _live(size: Size) -> BenchResult:
    from bench.live import run

    return run(size)


def _flood(size: Size) -> BenchResult:
    from bench.flood import run

    return run(size)


def _promises(size: Size) -> BenchResult:
    from bench.promises import run

    return run(size)


def _kills(size: Size) -> BenchResult:
    from bench.kills import run

    return run(size)


def _wan_sizes(size: Size) -> BenchResult:
    from bench.wan_sizes import run

    return run(size)


def _wan_layer(size: Size) -> BenchResult:
    from bench.wan_layer import run

    return run(size)


BENCHMARKS: Mapping[str, Benchmark] = {
    "start": _start,
    "trace-store": _trace_store,
    "offline": _offline,
    "residency": _residency,
    "solve-scaling": _solve_scaling,
    "forecast": _forecast,
    "headroom": _headroom,
    "compare": _compare,
    "simulate": _simulate,
    "runtime": _runtime,
    "runtime-batches": _runtime_batches,
    "runtime-neighbours": _runtime_neighbours,
    "live": _live,
    "flood": _flood,
    "promises": _promises,
    "kills": _kills,
    "wan-sizes": _wan_sizes,
    "wan-layer": _wan_layer,
}
