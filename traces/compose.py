"""Bodies of one set on the arrivals of another: a trace of a wanted load.

Decides which body comes when, and how many; must never know what a session costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from traces.assemble import trace_from_periods
from traces.demand import SECOND_US, Arrivals, ArrivalSource, Bodies, Ints
from traces.errors import BadInputError
from traces.trace import Trace

PERIODS_MAX = 20_000_000
_SURPLUS = 1.15  # drawn beyond the expected need, then thinned to the wanted mean
_DRAWS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposeOptions:
    """The wanted load. Exactly one of `active_mean` and `sessions_mean` is given."""

    hours: float
    active_mean: float | None = None  # mean number of active sessions over the window
    sessions_mean: float | None = None  # mean number of open sessions, active or idle
    profiles: Mapping[str, float] = field(default_factory=dict)  # share of sessions; the rest has no profile
    tenants: Mapping[str, float] | Literal["none", "source"] = "none"  # shares, or those of the arrivals
    warm_up: bool = True  # begin in steady state: sessions that opened before the window are in it
    resolution_s: float = 0.0  # arrivals are rounded down to multiples of this; 0: microseconds
    seed: int = 0


def compose(bodies: Bodies, source: ArrivalSource, options: ComposeOptions, *, name: str = "composed") -> Trace:
    """Draw arrivals, put a body drawn with replacement on each, cut at the window, and thin to the wanted mean.

    The mean over the window is that wanted, to within one session. Periods are cut at both ends of the window. Equal
    arguments give an equal trace. Raises `BadInputError` for options that make no sense and loads out of reach.
    """
    _check(options)
    rng = np.random.default_rng(options.seed)
    length_us = round(options.hours * 3600 * SECOND_US)
    before_us = int(bodies.duration_us.max()) if options.warm_up else 0
    busy_us = bodies.active_us if options.active_mean is not None else bodies.duration_us
    mean = options.active_mean if options.active_mean is not None else options.sessions_mean
    assert mean is not None, "checked above"
    rate_per_s = mean / (busy_us.mean() / SECOND_US) * _SURPLUS
    for _ in range(_DRAWS_MAX):
        _check_size(rate_per_s, length_us + before_us, bodies)
        arrivals = source.draw(rate_per_s=rate_per_s, length_us=length_us, before_us=before_us, rng=rng)
        drawn = _Drawn(bodies, _rounded(arrivals.times_us, options.resolution_s), length_us, rng)
        busy = drawn.active_us() if options.active_mean is not None else drawn.open_us()
        if busy.sum() >= mean * length_us:
            break
        rate_per_s *= 1.3
    else:
        raise BadInputError.of(arrivals.name, f"mean={mean:g} must be lower: so many sessions do not arrive here")
    kept = _thin(busy, mean * length_us, rng)
    return _trace(drawn, kept, arrivals, options, rng, name)


class _Drawn:
    """All periods of the sessions that arrived, cut at the window; arrays run over periods."""

    def __init__(self, bodies: Bodies, times_us: Ints, length_us: int, rng: np.random.Generator) -> None:
        body = rng.integers(bodies.count, size=len(times_us))
        counts = (bodies.offsets[1:] - bodies.offsets[:-1])[body]
        ends = np.cumsum(counts)
        row = np.arange(counts.sum()) + np.repeat(bodies.offsets[body] - (ends - counts), counts)
        session = np.repeat(np.arange(len(times_us)), counts)
        arrived = times_us[session]
        start = np.maximum(bodies.start_us[row] + arrived, 0)
        end = np.minimum(bodies.end_us[row] + arrived, length_us)
        inside = start < end
        self.count = len(times_us)
        self.session, self.start_us, self.end_us = session[inside], start[inside], end[inside]

    def active_us(self) -> Ints:
        """Active time of each session inside the window."""
        weights = self.end_us - self.start_us
        return np.bincount(self.session, weights=weights, minlength=self.count).astype(np.int64)

    def open_us(self) -> Ints:
        """Time from each session's first start to its last end inside the window."""
        opens = np.flatnonzero(np.diff(self.session, prepend=-1))
        last = np.append(opens[1:], len(self.session)) - 1
        out = np.zeros(self.count, dtype=np.int64)
        out[self.session[opens]] = self.end_us[last] - self.start_us[opens]
        return out


def shares(given: Mapping[str, float], option: str) -> tuple[list[str | None], list[float]]:
    """Names and probabilities; what the shares leave of 1 has no name. Raises `BadInputError`."""
    for key, share in given.items():
        if not 0 < share <= 1:
            raise BadInputError.of(option, f"{key}={share:g} must be > 0 and <= 1")
    rest = 1.0 - sum(given.values())
    if rest < -1e-9:
        raise BadInputError.of(option, f"sum of shares={1 - rest:g} must be <= 1")
    probabilities = [*given.values(), max(rest, 0.0)]
    return [*given, None], [value / sum(probabilities) for value in probabilities]


def _check(options: ComposeOptions) -> None:
    means = [value for value in (options.active_mean, options.sessions_mean) if value is not None]
    if len(means) != 1:
        raise BadInputError.of("load", f"means={len(means)} must be 1: give the mean of active or of open sessions")
    for key, value in (("hours", options.hours), ("mean", means[0])):
        if not 0 < value < float("inf"):
            raise BadInputError.of("load", f"{key}={value:g} must be > 0 and finite")
    if not 0 <= options.resolution_s < options.hours * 3600:
        raise BadInputError.of("load", f"resolution_s={options.resolution_s:g} must be >= 0 and below the window")


def _check_size(rate_per_s: float, span_us: int, bodies: Bodies) -> None:
    periods = rate_per_s * span_us / SECOND_US * (len(bodies.start_us) / bodies.count)
    if periods > PERIODS_MAX:
        raise BadInputError.of(
            "load", f"periods={periods:.3g} must be at most {PERIODS_MAX:.3g}: fewer hours or sessions"
        )


def _rounded(times_us: Ints, resolution_s: float) -> Ints:
    step = max(round(resolution_s * SECOND_US), 1)
    return times_us // step * step


def _thin(busy_us: Ints, wanted_us: float, rng: np.random.Generator) -> Ints:
    """Indices of the sessions to keep, a uniform draw whose busy time is nearest to that wanted."""
    order = rng.permutation(np.flatnonzero(busy_us))
    total = np.cumsum(busy_us[order])
    return np.asarray(order[: max(int(np.searchsorted(total, wanted_us)), 1)])


def _trace(
    drawn: _Drawn, kept: Ints, arrivals: Arrivals, options: ComposeOptions, rng: np.random.Generator, name: str
) -> Trace:
    keep = np.zeros(drawn.count, dtype=np.bool_)
    keep[kept] = True
    inside = keep[drawn.session]
    session, start, end = drawn.session[inside], drawn.start_us[inside], drawn.end_us[inside]
    opens = np.flatnonzero(np.diff(session, prepend=-1))
    number = np.empty(drawn.count, dtype=np.int64)
    count = len(opens)
    number[session[opens][np.argsort(start[opens], kind="stable")]] = np.arange(count)
    number = number[session]
    ids = pl.Series("session_id", np.arange(count)).cast(pl.String).str.zfill(len(str(count - 1)))
    columns = {"session_id": "s" + ids}
    for key, given in (("profile", options.profiles), ("tenant", options.tenants)):
        if isinstance(given, Mapping) and given:
            names, probabilities = shares(given, f"--{key}")
            columns[key] = pl.Series(names, dtype=pl.String).gather(rng.choice(len(names), count, p=probabilities))
    if options.tenants == "source":
        of_session = np.empty(count, dtype=np.int64)
        of_session[number] = arrivals.tenant_index[session]
        columns["tenant"] = pl.Series(arrivals.tenants).gather(of_session)
    order = np.lexsort((number, start))
    table = pl.DataFrame([column.gather(number[order]).alias(key) for key, column in columns.items()])
    return trace_from_periods(
        table.with_columns(pl.Series("start_s", start[order] / SECOND_US), pl.Series("end_s", end[order] / SECOND_US)),
        name=name,
    )
