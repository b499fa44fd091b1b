"""`epochal trace`: convert, compose, generate, validate and describe traces.

Decides options, messages and exit codes; must never know how a trace is read or made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, assert_never

import numpy as np
import typer

from runtime.cli.errors import told
from runtime.cli.trace_options import (
    ActiveOption,
    CutOption,
    Format,
    FormatOption,
    GapOption,
    HoursOption,
    ModelOption,
    OpenOption,
    OutOption,
    ProfileOption,
    QuietOption,
    ResolutionOption,
    SeedOption,
    TenantOption,
    TokenOption,
    TraceArgument,
    WarmOption,
)
from runtime.cli.trace_show import show_description, show_json, show_summary, summary
from runtime.cli.trace_sources import Kind, SourceOption, parse_shares, parse_source, read_arrivals, read_bodies
from traces.compose import ComposeOptions, compose
from traces.demand import SECOND_US
from traces.describe import describe
from traces.errors import BadInputError
from traces.halves import trace_of_arrivals, trace_of_bodies
from traces.importers.azure import azure_trace
from traces.importers.mapping import RequestMapping
from traces.importers.mooncake import mooncake_trace
from traces.importers.servegen import servegen_rates
from traces.plot import plot_html, plot_png
from traces.store import read_trace, write_bytes, write_trace
from traces.synthetic import generate
from traces.trace import Trace

app = typer.Typer(
    name="trace",
    help="Traces: public formats to ours, bodies on arrivals, synthetic workloads, checks, statistics.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=False,
    pretty_exceptions_enable=False,
)

_CODES = "\n\nExit codes: 0 done, 1 failed (disk), 2 bad input, 130 interrupted."


@app.command(
    "convert",
    epilog="Example: epochal trace convert conversation_trace.jsonl --from mooncake -o mooncake.parquet" + _CODES,
)
@told()
def convert_command(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The public file, as published or gzipped.")],
    output: OutOption,
    kind: Annotated[Kind, typer.Option("--from", help="The format of FILE.")] = Kind.native,
    gap_merge_s: GapOption = 30.0,
    session_cut_s: CutOption = 1800.0,
    token_s: TokenOption = 0.05,
    spacing_s: Annotated[
        float, typer.Option("--spacing-s", help="kv-cache-tester: seconds between openings, which it has none of.")
    ] = 0.0,
    active_s: Annotated[
        float, typer.Option("--active-s", help="servegen: length of the one period of each arrival.")
    ] = 30.0,
    hours: Annotated[float, typer.Option("--hours", help="servegen: length of the window.")] = 1.0,
    rate_per_s: Annotated[float, typer.Option("--rate-per-s", help="servegen: mean arrivals per second.")] = 1.0,
    model: ModelOption = None,
    seed: SeedOption = 0,
    form: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Convert a public data set, or a trace of ours, to a trace file.

    azure gives sessions of one period; kv-cache-tester has no openings and servegen no sessions: compose makes better
    traces of those two.
    """
    mapping = _mapping(gap_merge_s, session_cut_s, token_s)
    match kind:
        case Kind.native:
            trace = read_trace(source)
        case Kind.azure:
            trace = azure_trace(source, mapping)
        case Kind.mooncake:
            trace = mooncake_trace(source, mapping)
        case Kind.kv_cache_tester:
            trace = _bodies_trace(SourceOption(kind=kind, path=source), mapping, spacing_s)
        case Kind.servegen:
            trace = _arrivals_trace(source, model, hours, rate_per_s, active_s, seed)
        case _:
            assert_never(kind)
    _finish(trace, output, form, quiet)


@app.command(
    "compose",
    epilog="Example: epochal trace compose --bodies kv-cache-tester:requests.csv.gz "
    "--arrivals servegen:client_rates.csv.gz --model deepseek-r1 --hours 24 --active-mean 80 -o day.parquet" + _CODES,
)
@told()
def compose_command(
    bodies: Annotated[
        str, typer.Option("--bodies", help="KIND:PATH of session bodies (kv-cache-tester, mooncake, native).")
    ],
    arrivals: Annotated[
        str, typer.Option("--arrivals", help="KIND:PATH of arrivals (servegen, azure, mooncake, native).")
    ],
    output: OutOption,
    hours: HoursOption = 24.0,
    active_mean: ActiveOption = None,
    sessions_mean: OpenOption = None,
    profile: ProfileOption = None,
    tenant: TenantOption = None,
    warm_up: WarmOption = True,
    resolution_s: ResolutionOption = 0.0,
    model: ModelOption = None,
    gap_merge_s: GapOption = 30.0,
    session_cut_s: CutOption = 1800.0,
    token_s: TokenOption = 0.05,
    seed: SeedOption = 0,
    form: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Put session bodies of one set on the arrivals of another, scaled to a wanted load."""
    options = _load(hours, active_mean, sessions_mean, profile, tenant, warm_up, resolution_s, seed)
    mapping = _mapping(gap_merge_s, session_cut_s, token_s)
    source = read_arrivals(parse_source(arrivals, "--arrivals"), mapping, model)
    trace = compose(read_bodies(parse_source(bodies, "--bodies"), mapping), source, options, name=output.name)
    _finish(trace, output, form, quiet)


@app.command(
    "generate",
    epilog="Example: epochal trace generate --hours 6 --active-mean 200 --profile a=0.7,b=0.3 --seed 1 -o six.parquet"
    + _CODES,
)
@told()
def generate_command(
    output: OutOption,
    hours: HoursOption = 24.0,
    active_mean: ActiveOption = None,
    sessions_mean: OpenOption = None,
    profile: ProfileOption = None,
    tenant: TenantOption = None,
    warm_up: WarmOption = True,
    resolution_s: ResolutionOption = 0.0,
    seed: SeedOption = 0,
    form: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Generate a synthetic trace: a day's curve, flash crowds, heavy-tailed sessions."""
    options = _load(hours, active_mean, sessions_mean, profile, tenant, warm_up, resolution_s, seed)
    _finish(generate(options, name=output.name), output, form, quiet)


@app.command("validate", epilog="Example: epochal trace validate day.parquet" + _CODES)
@told()
def validate_command(trace: TraceArgument, form: FormatOption = Format.table, quiet: QuietOption = False) -> None:
    """Check a trace file: what is wrong with it, line by line, or what it holds."""
    read = read_trace(trace)
    _warn(read, quiet)
    _print(summary(read, str(trace)), form)


@app.command("describe", epilog="Example: epochal trace describe day.parquet --plot day.html" + _CODES)
@told()
def describe_command(
    trace: TraceArgument,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw to this .html or .png file as well.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the statistics as JSON to this file.")
    ] = None,
    form: FormatOption = Format.table,
    quiet: QuietOption = False,
) -> None:
    """Show the statistics of a trace: durations, duty, gaps, concurrency, burstiness."""
    if plot is not None and plot.suffix.lower() not in (".html", ".png"):
        raise BadInputError.of("--plot", f"ending={plot.suffix or 'none'} must be .html or .png")
    read = read_trace(trace)
    _warn(read, quiet)
    found = describe(read)
    if plot is not None:
        write_bytes(plot, plot_png(read) if plot.suffix.lower() == ".png" else plot_html(read).encode())
    if output is not None:
        write_bytes(output, (json.dumps(found.to_dict(), indent=2) + "\n").encode())
    if form is Format.json:
        show_json(found.to_dict())
    else:
        show_description(found)


def _mapping(gap_merge_s: float, session_cut_s: float, token_s: float) -> RequestMapping:
    for name, value in (("gap-merge-s", gap_merge_s), ("session-cut-s", session_cut_s), ("token-s", token_s)):
        if not 0 <= value < 1e9:
            raise BadInputError.of(f"--{name}", f"{name.replace('-', '_')}={value:g} must be >= 0 and < 1e9")
    return RequestMapping(gap_merge_s=gap_merge_s, session_cut_s=session_cut_s, token_s=token_s)


def _load(
    hours: float,
    active_mean: float | None,
    sessions_mean: float | None,
    profile: list[str] | None,
    tenant: list[str] | None,
    warm_up: bool,
    resolution_s: float,
    seed: int,
) -> ComposeOptions:
    if active_mean is not None and sessions_mean is not None:
        raise BadInputError.of("--sessions-mean", "sessions_mean must be left out where --active-mean is given")
    if active_mean is None and sessions_mean is None:
        raise BadInputError.of("--active-mean", "active_mean must be given, or --sessions-mean")
    tenants: dict[str, float] | Literal["none", "source"] = "none"
    if tenant == ["source"]:
        tenants = "source"
    elif tenant:
        tenants = parse_shares(tenant, "--tenant")
    return ComposeOptions(
        hours=hours,
        active_mean=active_mean,
        sessions_mean=sessions_mean,
        profiles=parse_shares(profile or [], "--profile"),
        tenants=tenants,
        warm_up=warm_up,
        resolution_s=resolution_s,
        seed=seed,
    )


def _bodies_trace(source: SourceOption, mapping: RequestMapping, spacing_s: float) -> Trace:
    if not 0 <= spacing_s < 1e6:
        raise BadInputError.of("--spacing-s", f"spacing_s={spacing_s:g} must be >= 0 and < 1e6")
    return trace_of_bodies(read_bodies(source, mapping), spacing_s=spacing_s)


def _arrivals_trace(
    path: Path, model: str | None, hours: float, rate_per_s: float, active_s: float, seed: int
) -> Trace:
    for name, value in (("hours", hours), ("rate_per_s", rate_per_s), ("active_s", active_s)):
        if not 0 < value < 1e6:
            raise BadInputError.of(f"--{name.replace('_', '-')}", f"{name}={value:g} must be > 0 and < 1e6")
    rates = servegen_rates(path, model=model)
    rng = np.random.default_rng(seed)
    drawn = rates.draw(rate_per_s=rate_per_s, length_us=round(hours * 3600 * SECOND_US), before_us=0, rng=rng)
    if not len(drawn.times_us):
        raise BadInputError.of("--rate-per-s", f"rate_per_s={rate_per_s:g} must be higher: nothing arrives")
    return trace_of_arrivals(drawn, active_s=active_s)


def _finish(trace: Trace, output: Path, form: Format, quiet: bool) -> None:
    _warn(trace, quiet)
    write_trace(trace, output)
    _print(summary(read_trace(output), str(output)), form)


def _warn(trace: Trace, quiet: bool) -> None:
    if not quiet:
        for warning in trace.warnings:
            typer.echo(f"{trace.name}: {warning}", err=True)


def _print(result: dict[str, object], form: Format) -> None:
    if form is Format.json:
        show_json(result)
    else:
        show_summary(result)
