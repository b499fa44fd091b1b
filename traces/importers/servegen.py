"""ServeGen: rates and inter-arrival laws of production clients, in windows of ten minutes.

Decides how fitted laws become arrivals; must never know what arrives, for the set says when and not what.
Source: github.com/alibaba/ServeGen, data/*/*/chunk-*-trace.csv joined into one table (Xiang et al., arXiv 2505.09999).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from traces.demand import SECOND_US, Arrivals, Floats, Ints
from traces.errors import BadInputError
from traces.importers.rawfile import raw_csv

WINDOW_S = 600
ARRIVALS_MAX = 50_000_000  # of one draw
_COLUMNS: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "client": pl.String,
    "ts": pl.Float64,
    "rate": pl.Float64,
    "pattern": pl.String,
    "arg1": pl.Float64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServegenRates:
    """One row per client and window in which the client sends: its rate, and the shape of its inter-arrival law."""

    name: str
    clients: tuple[str, ...] = field(repr=False)
    windows: int  # ten-minute windows that the set spans; beyond, it begins again
    window: Ints = field(repr=False)  # of each row
    client_index: Ints = field(repr=False)
    rate_per_s: Floats = field(repr=False)
    shape: Floats = field(repr=False)
    weibull: NDArray[np.bool_] = field(repr=False)  # else Gamma

    def draw(self, *, rate_per_s: float, length_us: int, before_us: int, rng: np.random.Generator) -> Arrivals:
        """Renewal arrivals per client and window; rates are scaled so that their mean over [0, length_us) is as wanted.

        The law keeps its shape, and so its burstiness; its mean follows the rate. Windows before 0 are those at the end
        of the set, as if the days went round.
        """
        first, last = -ceil(before_us / SECOND_US / WINDOW_S), ceil(length_us / SECOND_US / WINDOW_S)
        per_window = np.bincount(self.window, weights=self.rate_per_s, minlength=self.windows)
        mean = per_window[np.arange(last) % self.windows].mean()
        if mean <= 0:
            raise BadInputError.of(self.name, f"rate=0 must be > 0 in the first {length_us / SECOND_US:g} s")
        wanted = np.arange(first, last)
        order = np.argsort(self.window, kind="stable")
        begin = np.searchsorted(self.window[order], np.arange(self.windows + 1))
        counts = np.diff(begin)[wanted % self.windows]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        row = order[np.repeat(begin[wanted % self.windows], counts) + within]
        base = np.repeat(wanted, counts).astype(np.float64) * WINDOW_S
        rates = self.rate_per_s[row] * (rate_per_s / mean)
        if rates.sum() * WINDOW_S > ARRIVALS_MAX:
            raise BadInputError.of(
                self.name, f"arrivals={rates.sum() * WINDOW_S:.3g} must be at most {ARRIVALS_MAX:.3g}"
            )
        source, offset = renewals(rates, self.shape[row], self.weibull[row], float(WINDOW_S), rng)
        times = np.floor((base[source] + offset) * 1e6).astype(np.int64)
        inside = (times >= -before_us) & (times < length_us)
        times, client = times[inside], self.client_index[row[source]][inside]
        by_time = np.argsort(times, kind="stable")
        return Arrivals(
            name=self.name,
            length_us=length_us,
            times_us=times[by_time],
            tenant_index=client[by_time],
            tenants=self.clients,
        )


def servegen_rates(path: Path, *, model: str | None = None) -> ServegenRates:
    """The rates of one model's clients; `model` may be left out where the file has one only."""
    rows = raw_csv(path, _COLUMNS)
    models = rows["model"].unique().sort().to_list()
    if model is None and len(models) == 1:
        model = models[0]
    if model not in models:
        raise BadInputError.of(str(path), f"model={model or ''} must be one of {', '.join(models)}")
    bad = rows.filter(~pl.col("pattern").is_in(["Gamma", "Weibull"]) | (pl.col("rate") < 0) | (pl.col("arg1") <= 0))
    if bad.height:
        row = bad.row(0, named=True)
        message = (
            f"pattern={row['pattern']} rate={row['rate']} arg1={row['arg1']} must be Gamma or Weibull, >= 0 and > 0"
        )
        raise BadInputError.of(str(path), message, row["line"])
    rows = rows.filter((pl.col("model") == model) & (pl.col("rate") > 0))
    clients = tuple(f"client-{client}" for client in rows["client"].unique().sort())
    index = rows["client"].rank("dense").cast(pl.Int64).to_numpy() - 1
    window = (rows["ts"] // WINDOW_S).cast(pl.Int64).to_numpy()
    return ServegenRates(
        name=f"{path.name}:{model}",
        clients=clients,
        windows=int(window.max()) + 1,
        window=window,
        client_index=index,
        rate_per_s=rows["rate"].to_numpy(),
        shape=rows["arg1"].to_numpy(),
        weibull=(rows["pattern"] == "Weibull").to_numpy(),
    )


def renewals(
    rate: Floats, shape: Floats, weibull: NDArray[np.bool_], length_s: float, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Stationary renewal processes on [0, length_s), many at once: the process and the time of each arrival.

    The first gap is a uniform part of a length-biased one, so that the expected count is exactly rate * length_s;
    started with a whole gap, bursty laws would give far more.
    """
    biased = np.where(weibull, _weibull_biased(shape, rng), rng.gamma(shape + 1))
    at = biased * rng.random(len(rate)) / (_law_mean(shape, weibull) * rate)
    running = np.flatnonzero(at < length_s)
    sources, times = [running], [at[running]]
    while len(running):
        block = np.ceil(np.minimum(rate[running] * (length_s - at[running]) * 1.2 + 8, 1e6)).astype(np.int64)
        index = np.repeat(running, block)
        gaps = np.where(weibull[index], rng.weibull(shape[index]), rng.gamma(shape[index]))
        gaps /= _law_mean(shape, weibull)[index] * rate[index]
        ends = np.cumsum(block)
        starts = ends - block
        total = np.cumsum(gaps)
        before = np.where(starts > 0, total[starts - 1], 0.0)
        arrived = total - np.repeat(before, block) + at[index]
        inside = arrived < length_s
        sources.append(index[inside])
        times.append(arrived[inside])
        at[running] = arrived[ends - 1]
        running = running[at[running] < length_s]
    return np.concatenate(sources), np.concatenate(times)


def _weibull_biased(shape: Floats, rng: np.random.Generator) -> Floats:
    """Length-biased Weibull of scale 1: its density is x times the law's, up to a constant."""
    return np.asarray(rng.gamma(1.0 + 1.0 / shape) ** (1.0 / shape))


def _law_mean(shape: Floats, weibull: NDArray[np.bool_]) -> Floats:
    """The mean of the law at scale 1: the shape for Gamma, Gamma(1 + 1/shape) for Weibull."""
    return np.where(weibull, np.exp(_log_gamma(1.0 + 1.0 / shape)), shape)


def _log_gamma(x: Floats) -> Floats:
    """ln Gamma for x >= 1, by Stirling's series after shifting x above 8 (absolute error below 1e-11)."""
    shift = np.zeros_like(x)
    for _ in range(8):
        low = x < 8
        shift = shift + np.where(low, np.log(x), 0.0)
        x = np.where(low, x + 1.0, x)
    inverse = 1.0 / x
    series = inverse / 12 - inverse**3 / 360 + inverse**5 / 1260 - inverse**7 / 1680
    return np.asarray((x - 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi) + series - shift)
