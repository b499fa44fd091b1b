"""The public sets: their published statistics, from the data itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.traces.builders import a_file, periods_us
from traces.describe import concurrency, describe, dispersion, quantiles
from traces.errors import BadInputError
from traces.halves import trace_of_arrivals, trace_of_bodies
from traces.importers.azure import azure_arrivals, azure_trace
from traces.importers.kv_cache_tester import kv_cache_tester_bodies
from traces.importers.mapping import RequestMapping, periods_from_requests
from traces.importers.mooncake import link_requests, mooncake_trace
from traces.importers.servegen import renewals, servegen_rates

DATA = Path(__file__).parent / "data"
KV, AZURE = DATA / "kv_cache_tester.csv.gz", DATA / "azure_conv.csv.gz"
MOONCAKE, SERVEGEN = DATA / "mooncake_600s.jsonl.gz", DATA / "servegen_deepseek.csv.gz"


def test_kv_cache_tester_gives_the_published_sessions() -> None:
    bodies = kv_cache_tester_bodies(KV)
    duration = quantiles(bodies.duration_us / 1e6)
    bursts = quantiles(np.diff(bodies.offsets).astype(float))
    assert bodies.count == 925
    assert [round(value) for value in (duration.p10, duration.p50, duration.p90, duration.p99)] == [
        88,
        1218,
        5832,
        13166,
    ]
    assert [round(value) for value in (bursts.p10, bursts.p50, bursts.p90, bursts.p99)] == [1, 5, 20, 60]


def test_kv_cache_tester_gives_the_published_periods_gaps_and_duty() -> None:
    found = describe(trace_of_bodies(kv_cache_tester_bodies(KV)))
    active = [found.active_s.p10, found.active_s.p50, found.active_s.p90, found.active_s.p99]
    idle = [round(value) for value in (found.idle_s.p10, found.idle_s.p50, found.idle_s.p90, found.idle_s.p99)]
    assert active == pytest.approx([5.7, 38.6, 168, 439], rel=0.01)
    assert idle == [36, 98, 531, 1507]
    assert found.duty == pytest.approx(0.284, abs=5e-4)
    assert found.duty_median == pytest.approx(0.361, abs=1e-3)


def test_kv_cache_tester_agents_add_busy_time_on_the_main_clock() -> None:
    alone, together = (kv_cache_tester_bodies(KV, agents=agents).active_us.sum() for agents in (False, True))
    assert alone < together


def test_azure_gives_the_published_load_and_burstiness() -> None:
    arrivals, found = azure_arrivals(AZURE), describe(azure_trace(AZURE))
    assert (found.sessions, found.arrivals.per_minute_max) == (19_366, 507)
    assert (round(found.active.mean), found.active.peak) == (58, 94)
    assert found.active.peak_to_mean == pytest.approx(1.62, abs=5e-3)
    assert found.arrivals.dispersion_1s == pytest.approx(1.39, abs=5e-3)
    assert found.arrivals.interarrival_cv == pytest.approx(1.09, abs=5e-3)
    # The published 20.6 counts the last, partial minute as a whole one; `describe` leaves it out.
    assert dispersion(arrivals.times_us, arrivals.length_us, 60) == pytest.approx(20.6, abs=0.4)


def naive_links(hash_ids: list[list[int]]) -> list[int]:
    """Straight from the description, quadratic."""
    uses: dict[int, int] = {}
    for blocks in hash_ids:
        for block in set(blocks):
            uses[block] = uses.get(block, 0) + 1
    conversation: list[int] = []
    for request, blocks in enumerate(hash_ids):
        for earlier in reversed(range(request)):
            before = hash_ids[earlier]
            if len(before) > 1 and uses[before[-2]] <= 50 and before[-2] in blocks:
                conversation.append(conversation[earlier])
                break
        else:
            conversation.append(max(conversation, default=-1) + 1)
    return conversation


def test_mooncake_requests_are_linked_as_described() -> None:
    with gzip.open(MOONCAKE, "rt") as stream:
        hash_ids = [json.loads(line)["hash_ids"] for line in stream]
    assert link_requests(hash_ids).tolist() == naive_links(hash_ids)


def test_mooncake_links_the_latest_earlier_request_and_ignores_shared_prompts() -> None:
    assert link_requests([[0, 1, 2], [0, 1, 3], [0, 1, 3, 4]]).tolist() == [0, 0, 0]
    assert link_requests([[0, 9]] * 51).tolist() == list(range(51))


def test_mooncake_sessions_are_active_while_tokens_are_made(tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 5, "output_length": 100, "hash_ids": [1, 2]},
        {"timestamp": 3000, "input_length": 5, "output_length": 20, "hash_ids": [7, 8]},
        {"timestamp": 60000, "input_length": 5, "output_length": 40, "hash_ids": [1, 2, 3]},
    ]
    path = a_file(tmp_path, "\n".join(json.dumps(row) for row in rows), "raw.jsonl")
    assert periods_us(mooncake_trace(path)) == {
        "0": [(0, 5_000_000), (60_000_000, 62_000_000)],
        "1": [(3_000_000, 4_000_000)],
    }


def test_servegen_arrivals_have_the_published_rate_and_extremes() -> None:
    rates = servegen_rates(SERVEGEN)
    assert len(rates.clients) == 73
    per_window = np.bincount(rates.window, weights=rates.rate_per_s)
    assert (per_window.mean(), per_window.min(), per_window.max()) == pytest.approx((16.0, 4.3, 42.5), rel=0.01)
    drawn = rates.draw(rate_per_s=2.0, length_us=86_400_000_000, before_us=0, rng=np.random.default_rng(0))
    assert len(drawn.times_us) / 86_400 == pytest.approx(2.0, rel=0.05)
    assert (np.diff(drawn.times_us) >= 0).all()


@pytest.mark.parametrize(("shape", "weibull"), [(1.0, False), (0.3, False), (4.0, False), (0.5, True), (2.0, True)])
def test_renewal_processes_are_stationary_with_the_wanted_rate_and_burstiness(shape: float, weibull: bool) -> None:
    many, length_s, rate = 4000, 600.0, 0.05
    same = np.full(many, shape)
    source, times = renewals(np.full(many, rate), same, np.full(many, weibull), length_s, np.random.default_rng(1))
    first_third, last_third = (times < length_s / 3).sum(), (times >= length_s * 2 / 3).sum()
    assert len(times) / many == pytest.approx(rate * length_s, rel=0.04)
    assert first_third == pytest.approx(last_third, rel=0.08)
    counts = np.bincount(source, minlength=many)
    dispersed = counts.var() / counts.mean()
    assert dispersed > 1.5 if shape < 1 else dispersed < 1.15


def test_servegen_with_several_models_asks_which(tmp_path: Path) -> None:
    text = "model,client,ts,rate,pattern,arg1\na,1,0,1,Gamma,1\nb,1,0,1,Gamma,1\n"
    with pytest.raises(BadInputError, match=r"model= must be one of a, b"):
        servegen_rates(a_file(tmp_path, text))


def test_arrivals_alone_become_sessions_of_one_period_with_their_tenants() -> None:
    drawn = servegen_rates(SERVEGEN).draw(rate_per_s=0.1, length_us=10**9, before_us=0, rng=np.random.default_rng(3))
    found = describe(trace_of_arrivals(drawn, active_s=5.0))
    assert found.active_s.p10 == found.active_s.max == pytest.approx(5.0)
    assert found.tenants > 1


def naive_periods_of_group(spans: list[tuple[int, int]], merge: int, cut: int) -> list[list[tuple[int, int]]]:
    sessions: list[list[tuple[int, int]]] = []
    for start, end in sorted(spans):
        if not sessions or start - sessions[-1][-1][1] > cut:
            sessions.append([(start, end)])
        elif start - sessions[-1][-1][1] > merge:
            sessions[-1].append((start, end))
        else:
            sessions[-1][-1] = (sessions[-1][-1][0], max(end, sessions[-1][-1][1]))
    return sessions


def test_requests_merge_and_cut_as_a_naive_loop_does() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        group = rng.integers(0, 3, 40)
        start = rng.integers(0, 400, 40) * 10**6
        end = start + rng.integers(1, 30, 40) * 10**6
        index, begin, until = periods_from_requests(group, start, end, RequestMapping(gap_merge_s=3, session_cut_s=20))
        got: list[list[tuple[int, int]]] = [[] for _ in range(int(index.max()) + 1)]
        for session, a, b in zip(index.tolist(), begin.tolist(), until.tolist(), strict=True):
            got[session].append((a, b))
        wanted = [
            session
            for key in sorted(set(group.tolist()))
            for session in naive_periods_of_group(
                [(int(a), int(b)) for a, b in zip(start[group == key], end[group == key], strict=True)],
                3 * 10**6,
                20 * 10**6,
            )
        ]
        assert got == wanted


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("kv", "trace_id,t\na,0\n", ":1: column=agent_id must be present"),
        ("kv", "trace_id,agent_id,agent_start,t,api_time\na,,,soon,1\n", ":2: t=soon must be a finite number"),
        ("azure", "TIMESTAMP,GeneratedTokens\nyesterday,5\n", ":2: TIMESTAMP=yesterday must look like"),
        ("azure", "", "file must be CSV"),
        ("mooncake", '{"timestamp": 5}\n', ":1: output_length= must be given"),
        ("mooncake", "nonsense\n", "must hold one JSON object per line"),
        ("servegen", "model,client,ts,rate,pattern,arg1\na,1,0,1,Pareto,1\n", ":2: pattern=Pareto"),
    ],
)
def test_broken_raw_files_are_refused_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = a_file(tmp_path, text, "raw.txt")
    readers = {
        "kv": kv_cache_tester_bodies,
        "azure": azure_trace,
        "mooncake": mooncake_trace,
        "servegen": servegen_rates,
    }
    with pytest.raises(BadInputError) as caught:
        readers[name](path)  # type: ignore[operator]
    assert message in str(caught.value)


def test_concurrency_counts_half_open_intervals() -> None:
    start, end = (pl.Series(values).to_numpy() for values in ([0, 5, 5], [5, 10, 6]))
    found = concurrency(start, end, 10)
    assert (found.peak, found.mean) == (2, 1.1)
