"""What the gateway measures, as Prometheus reads it.

Decides names, units and what is counted as what; must never have a session's name in a label.

A chunk's latency is the time from when it may come (its worker has credit for it and serves the session, and the chunk
before it has come) until it has come. It is in time if that is not longer than the chunk plays. A client stalls from
when all that it has been sent would have been shown, one chunk after the other, until the next one has come.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from runtime.gateway.messages import COUNTS_MAX, Where

_LATENCIES_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_FIRST_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
COUNT_MAX = 2**53  # of what a summary has counted
_COUNT = re.compile(r"(?P<name>[a-z_][a-z0-9_]{0,127})(?:\{(?P<labels>[^{}]{0,512})\})?")
_LABEL = re.compile(r'(?P<name>[a-z_][a-z0-9_]{0,63})="(?P<value>[^"\\]{0,128})"(?:,|$)')


class Metrics:
    """`counts` are the controller's own metrics, `wheres` where each session is."""

    def __init__(self, counts: Callable[[], Mapping[str, float]], wheres: Callable[[], Iterator[Where]]) -> None:
        self._registry = registry = CollectorRegistry()
        self.chunk_latency = Histogram(
            "epochal_chunk_latency_seconds",
            "From when a chunk may come until it has come.",
            buckets=_LATENCIES_S,
            registry=registry,
        )
        self.first_chunk = Histogram(
            "epochal_time_to_first_chunk_seconds",
            "From a create until its session's first chunk has come.",
            buckets=_FIRST_S,
            registry=registry,
        )
        self.deadlines = Counter(
            "epochal_chunk_deadline",
            "Chunks by whether they took at most as long as they play.",
            ["result"],
            registry=registry,
        )
        self._stalls = Counter(
            "epochal_stall_seconds", "That clients had nothing to show, between two chunks.", registry=registry
        )
        self._continuous = Gauge(
            "epochal_continuous_play_ratio", "Of the time that clients show or wait for chunks.", registry=registry
        )
        self._played_s = self._stalled_s = 0.0
        self.chunks = Counter(
            "epochal_gateway_chunks", "Chunks from workers, by what became of them.", ["result"], registry=registry
        )
        self.creates = Counter("epochal_gateway_creates", "Creates by answer.", ["result"], registry=registry)
        self.cut = Counter("epochal_gateway_clients_cut", "Clients that were too slow.", registry=registry)
        self.clients = Gauge("epochal_gateway_clients", "Clients that are attached.", registry=registry)
        self.ring_bytes = Gauge("epochal_gateway_ring_bytes", "Of chunks that are kept.", registry=registry)
        self.dropped = Gauge(
            "epochal_gateway_messages_dropped", "Messages that were none, or had nobody to go to.", registry=registry
        )
        registry.register(_Told(counts, wheres))

    def played(self, play_s: float, stalled_s: float) -> None:
        """A chunk has come to a client that had nothing to show for so long."""
        self._played_s, self._stalled_s = self._played_s + play_s, self._stalled_s + stalled_s
        self._stalls.inc(stalled_s)
        self._continuous.set(self._played_s / (self._played_s + self._stalled_s))

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Told(Collector):
    """What somebody else counts."""

    def __init__(self, counts: Callable[[], Mapping[str, float]], wheres: Callable[[], Iterator[Where]]) -> None:
        self._counts, self._wheres = counts, wheres

    def collect(self) -> Iterator[Metric]:
        sessions = GaugeMetricFamily("epochal_sessions", "Sessions by where they are.", labels=["state"])
        tally = Tally(self._wheres())
        for where in get_args(Where):
            sessions.add_metric([where], tally[where])
        yield sessions
        yield from families(self._counts())

    def describe(self) -> Iterator[Metric]:
        return iter(())


_OWN = re.compile(
    "epochal_(sessions|chunk_(latency|deadline)|time_to_first_chunk|stall_seconds|continuous_play|gateway_)", re.ASCII
)


def families(counts: Mapping[str, float]) -> list[Metric]:
    """The controller's counts as metrics; what is no metric, or one of the gateway's own, is left out.

    A `_total` is a counter, a `_sum` and its `_count` are a summary, and all else is a gauge.
    """
    gauges: dict[str, GaugeMetricFamily] = {}
    totals: dict[str, CounterMetricFamily] = {}
    summaries: dict[str, SummaryMetricFamily] = {}
    known: dict[str, tuple[str, ...]] = {}
    for key, value in sorted(counts.items())[:COUNTS_MAX]:
        whole = _COUNT.fullmatch(key)
        if whole is None or _OWN.match(key):
            continue
        name, text, braces = whole["name"], whole["labels"] or "", key[len(whole["name"]) :]
        labels = {label["name"]: label["value"] for label in _LABEL.finditer(text)}
        if len("".join(match[0] for match in _LABEL.finditer(text))) != len(text):
            continue
        if name.endswith("_count") and f"{name.removesuffix('_count')}_sum{braces}" in counts and value < COUNT_MAX:
            continue  # told with its sum
        base = name.removesuffix("_sum")
        number = counts.get(f"{base}_count{braces}", -1.0) if base != name else -1.0
        is_summary = 0 <= number < COUNT_MAX
        kind = "summary" if is_summary else "counter" if name.endswith("_total") else "gauge"
        family = base if is_summary else name
        if known.setdefault(family, (kind, *labels)) != (kind, *labels):
            continue  # all of a metric are of one kind and have the same labels
        about = (family, "As the controller counts.")
        values = list(labels.values())
        if is_summary:
            found = summaries.setdefault(family, SummaryMetricFamily(*about, labels=list(labels)))
            found.add_metric(values, round(number), value)
        elif kind == "counter":
            totals.setdefault(family, CounterMetricFamily(*about, labels=list(labels))).add_metric(values, value)
        else:
            gauges.setdefault(family, GaugeMetricFamily(*about, labels=list(labels))).add_metric(values, value)
    return [*gauges.values(), *totals.values(), *summaries.values()]
