"""Seeded workloads of any size: a day's curve, flash crowds, heavy-tailed sessions.

Decides the laws behind a synthetic trace; must never know a fleet. The parameters are set so that sessions look like
recorded interactive ones (docs/traces.md has the figures and the ranges that they are tested against).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from traces.compose import ComposeOptions, compose
from traces.demand import SECOND_US, Arrivals, Bodies, Floats
from traces.trace import Trace

_BODIES = 20_000  # distinct session bodies that a trace draws from
_DAY_S = 86_400
_BIN_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticLaw:
    """Parameters; times in seconds. Lognormal laws are given by median and sigma of the logarithm."""

    active_median_s: float = 27.0
    active_sigma: float = 1.05
    idle_median_s: float = 65.0
    idle_sigma: float = 1.13
    idle_s_max: float = 1800.0  # a longer pause ends the session
    periods_median: float = 6.5
    periods_sigma: float = 1.0
    periods_max: int = 120
    day_amplitude: float = 0.6  # of the mean rate: 0 is flat, below 1
    day_peak_hour: float = 20.0
    crowds_per_day: float = 8.0  # flash crowds
    crowd_factor_max: float = 3.0  # a crowd adds between 1 and this many times the rate of the hour
    crowd_s: float = 600.0  # mean time in which a crowd wears off
    noise_sigma: float = 0.25  # of the logarithm of the rate, minute by minute


def generate(options: ComposeOptions, law: SyntheticLaw | None = None, *, name: str = "synthetic") -> Trace:
    """A trace with the wanted load and mixture of profiles; equal arguments give equal traces."""
    law = law or SyntheticLaw()
    rng = np.random.default_rng([options.seed, 1])
    return compose(synthetic_bodies(law, rng), DiurnalSource(law=law), options, name=name)


def synthetic_bodies(law: SyntheticLaw, rng: np.random.Generator, count: int = _BODIES) -> Bodies:
    """Session bodies: a heavy-tailed number of periods, each of a lognormal length after a lognormal pause."""
    wanted = np.exp(np.log(law.periods_median) + law.periods_sigma * rng.standard_normal(count))
    counts = np.clip(np.rint(wanted), 1, law.periods_max).astype(np.int64)
    offsets = np.concatenate(([0], np.cumsum(counts)))
    total = int(offsets[-1])
    active = _lognormal(law.active_median_s, law.active_sigma, total, rng)
    idle = _lognormal(law.idle_median_s, law.idle_sigma, total, rng)
    idle = np.minimum(idle, law.idle_s_max)
    step = np.maximum(np.rint(np.column_stack((idle, active)) * SECOND_US), 1).astype(np.int64)
    step[offsets[:-1], 0] = 0
    at = np.cumsum(step.ravel()).reshape(step.shape)
    base = np.repeat(at[offsets[:-1], 0], counts)
    return Bodies(name="synthetic", offsets=offsets, start_us=at[:, 0] - base, end_us=at[:, 1] - base)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiurnalSource:
    """A Poisson process whose rate follows the hour, flash crowds and minute-scale noise; time 0 is midnight."""

    law: SyntheticLaw

    def draw(self, *, rate_per_s: float, length_us: int, before_us: int, rng: np.random.Generator) -> Arrivals:
        """As `ArrivalSource.draw`."""
        first, last = -(-before_us // (_BIN_S * SECOND_US)), -(-length_us // (_BIN_S * SECOND_US))
        shape = _rate_shape(self.law, np.arange(-first, last, dtype=np.float64) * _BIN_S, rng)
        shape /= shape[first:].mean()
        counts = rng.poisson(shape * rate_per_s * _BIN_S)
        begin = np.repeat(np.arange(-first, last) * (_BIN_S * SECOND_US), counts)
        times = np.sort(begin + rng.integers(0, _BIN_S * SECOND_US, len(begin)))
        times = times[(times >= -before_us) & (times < length_us)]
        none = np.zeros(len(times), dtype=np.int64)
        return Arrivals(name="synthetic", length_us=length_us, times_us=times, tenant_index=none, tenants=("",))


def _rate_shape(law: SyntheticLaw, at_s: Floats, rng: np.random.Generator) -> Floats:
    """The relative rate at each time."""
    phase = 2 * np.pi * (at_s / 3600 - law.day_peak_hour) / 24
    day = 1 + law.day_amplitude * np.cos(phase)
    minutes = len(at_s) * _BIN_S // 60 + 1
    noise = np.exp(law.noise_sigma * rng.standard_normal(minutes))
    shape = day * noise[np.arange(len(at_s)) * _BIN_S // 60]
    span_s = len(at_s) * _BIN_S
    crowd = np.zeros_like(at_s)
    for start, factor in zip(*_crowds(law, span_s, rng), strict=True):
        since = np.arange(len(at_s)) * float(_BIN_S) - start
        crowd += np.where(since >= 0, factor * np.exp(-np.maximum(since, 0) / law.crowd_s), 0.0)
    shape *= 1 + np.minimum(crowd, law.crowd_factor_max)
    return np.asarray(shape)


def _crowds(law: SyntheticLaw, span_s: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """When flash crowds begin, and by how much each raises the rate."""
    count = rng.poisson(law.crowds_per_day * span_s / _DAY_S)
    return rng.random(count) * span_s, rng.uniform(1.0, law.crowd_factor_max, count)


def _lognormal(median: float, sigma: float, count: int, rng: np.random.Generator) -> Floats:
    return np.asarray(median * np.exp(sigma * rng.standard_normal(count)))
