"""Every policy by name.

Decides which policies there are and how one is prepared for a fleet and a trace; must never know what they decide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from scheduler.fleet import Fleet
from scheduler.formulate_offline import session_classes
from scheduler.offline_plan import OfflinePlan
from scheduler.policies.given import Given, Recipe
from scheduler.policies.parameters import with_parameters
from scheduler.policy import Prepared
from scheduler.validation import nearest
from traces.errors import BadInputError
from traces.trace import Trace


def prepare(
    name: str,
    fleet: Fleet,
    trace: Trace,
    *,
    seed: int = 0,
    parameters: Mapping[str, str] | None = None,
    clock: Callable[[], float] | None = None,
    plan: OfflinePlan | None = None,
) -> Prepared:
    """A policy, ready to run: `prepare("turboserve", fleet, trace, parameters={"headroom": "0.85"})`.

    `clock` (monotonic seconds) limits what is computed beforehand; without it that is limited by work, and repeats.
    `plan` is an offline plan of the trace, for who follows one. Raises `BadInputError` where the policy, a parameter or
    its value is unknown, or the trace has a profile that the fleet lacks.
    """
    recipe = recipe_of(name)
    session_classes(trace, fleet)
    settings = with_parameters(recipe.settings, name, parameters or {})
    return recipe.build(Given(name=name, fleet=fleet, trace=trace, seed=seed, clock=clock, plan=plan), settings)


def recipe_of(name: str) -> Recipe:
    """Its settings' fields are the policy's parameters. Raises `BadInputError` for an unknown name."""
    if name not in POLICIES:
        raise BadInputError.of("policy", f"{name} is not known; {nearest(name, POLICIES)}")
    return POLICIES[name]()


def _fixed_round_robin() -> Recipe:
    from scheduler.policies.fixed_fleet import round_robin

    return round_robin()


def _fixed_least_loaded() -> Recipe:
    from scheduler.policies.fixed_fleet import fixed_least_loaded

    return fixed_least_loaded()


def _sticky_autoscale() -> Recipe:
    from scheduler.policies.sticky_autoscale import recipe

    return recipe()


def _two_choices() -> Recipe:
    from scheduler.policies.two_choices import recipe

    return recipe()


def _hpa() -> Recipe:
    from scheduler.policies.hpa import recipe

    return recipe()


def _llumnix() -> Recipe:
    from scheduler.policies.llumnix import recipe

    return recipe()


def _turboserve() -> Recipe:
    from scheduler.policies.turboserve import recipe

    return recipe()


def _epochal() -> Recipe:
    from scheduler.policies.epochal import epochal

    return epochal()


def _epochal_no_lookahead() -> Recipe:
    from scheduler.policies.epochal import no_lookahead

    return no_lookahead()


def _epochal_no_migration() -> Recipe:
    from scheduler.policies.epochal import no_migration

    return no_migration()


def _epochal_no_exact() -> Recipe:
    from scheduler.policies.epochal import no_exact

    return no_exact()


def _epochal_reference_budget() -> Recipe:
    from scheduler.policies.epochal import reference_budget

    return reference_budget()


def _q_learning() -> Recipe:
    from scheduler.policies.q_learning import recipe

    return recipe()


def _offline_optimum() -> Recipe:
    from scheduler.policies.offline_optimum import recipe

    return recipe()


POLICIES: Mapping[str, Callable[[], Recipe]] = {
    "fixed-round-robin": _fixed_round_robin,
    "fixed-least-loaded": _fixed_least_loaded,
    "two-choices": _two_choices,
    "sticky-autoscale": _sticky_autoscale,
    "hpa": _hpa,
    "llumnix": _llumnix,
    "q-learning": _q_learning,
    "turboserve": _turboserve,
    "epochal": _epochal,
    "epochal-no-lookahead": _epochal_no_lookahead,
    "epochal-no-migration": _epochal_no_migration,
    "epochal-no-exact": _epochal_no_exact,
    "epochal-reference-budget": _epochal_reference_budget,
    "offline-optimum": _offline_optimum,
}
