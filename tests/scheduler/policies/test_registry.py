"""Policies by name, and what is said about wrong names and values."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from scheduler.policies.registry import POLICIES, prepare, recipe_of
from tests.builders import a_fleet, a_trace
from traces.errors import BadInputError

FLEET = a_fleet()
TRACE = a_trace("s1 0-30; s2 10-40; s3 20-50; s4 25-60")


def message(name: str, **parameters: str) -> str:
    with pytest.raises(BadInputError) as error:
        prepare(name, FLEET, TRACE, parameters=parameters)
    return str(error.value)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_is_prepared_by_its_name(name: str) -> None:
    prepared = prepare(name, FLEET, TRACE)
    assert prepared.name == name
    assert prepared.gpus_at_start.keys() <= FLEET.gpu_types.keys()
    assert recipe_of(name).settings()


def test_an_unknown_policy_is_told_its_nearest() -> None:
    assert message("turboserv") == "policy: turboserv is not known; did you mean turboserve?"


def test_an_unknown_parameter_is_told_its_nearest() -> None:
    assert message("turboserve", headrom="0.8") == "turboserve: headrom is not a known key; did you mean headroom?"


@pytest.mark.parametrize(
    ("name", "parameter", "value", "words"),
    [
        ("turboserve", "headroom", "1.5", 'headroom="1.5" must be <= 1'),
        ("turboserve", "steps", "few", 'steps="few" must be a whole number'),
        ("hpa", "window_s", "-1", 'window_s="-1" must be >= 0'),
        ("fixed-round-robin", "gpus", "h200=3", "gpus=h200=3: no pool has GPU type 'h200'; did you mean h100?"),
        ("fixed-round-robin", "gpus", "h100=9", "gpus=h100=9: h100=9 must be a whole number from 0 to 4"),
    ],
)
def test_a_wrong_value_is_told(name: str, parameter: str, value: str, words: str) -> None:
    assert message(name, **{parameter: value}) == f"{name}: {words}"


def test_parameters_are_followed() -> None:
    assert prepare("fixed-round-robin", FLEET, TRACE, parameters={"gpus": "h100=3"}).gpus_at_start == {"h100": 3}


def test_a_fixed_fleet_is_sized_for_the_peak_at_the_references_headroom() -> None:
    """Three at once at 25 s, two per GPU: ceil(3 / 1.8)."""
    assert prepare("fixed-least-loaded", FLEET, a_trace("s1 0-30; s2 10-40; s3 20-50")).gpus_at_start == {"h100": 2}


def test_autoscalers_start_with_what_the_first_start_up_time_asks_for() -> None:
    """One at once before 20 s, four later."""
    late = a_trace("s1 0-30; s2 25-60; s3 26-60; s4 27-60")
    assert prepare("turboserve", FLEET, late).gpus_at_start == {"h100": 1}


def test_a_profile_that_the_fleet_lacks_is_refused_by_name() -> None:
    strange = replace(TRACE, sessions=TRACE.sessions.with_columns(profile=pl.lit("hologram")))
    for name in POLICIES:
        with pytest.raises(BadInputError, match=r"profile='hologram' \(4 sessions\) must be one of"):
            prepare(name, FLEET, strange)
