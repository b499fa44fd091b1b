"""Random problems, small enough for oracles that try everything.

Decides what the generated problems look like; must never know what is claimed about them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from solvers.contents import RoundCosts, TypeLimits
from solvers.offline_problem import NEVER_ON, UNLIMITED, MoveBudget, OfflineProblem

DOLLAR_PER_US = 3.6e9  # as a price per hour


@st.composite
def round_costs(draw: st.DrawFn, batching: str, classes: int) -> RoundCosts:
    """Integer milliseconds; now and then a class that cannot run at all."""
    step = st.integers(0, 4)
    if batching == "grouped":
        tables = []
        for _ in range(classes):
            rises = draw(st.lists(step, min_size=draw(st.sampled_from([2, 1, 0])), max_size=3))
            tables.append(tuple(float(1 + sum(rises[: n + 1])) for n in range(len(rises))))
        return RoundCosts(batching="grouped", tables_ms=tuple(tables))
    most = draw(st.sampled_from([3, 2, 1]))
    cost = st.sampled_from([1.0, 2.0, 2.5, 3.0, 4.0, 1.0, 2.0, float("inf")])
    own = tuple(draw(cost) for _ in range(classes))
    if batching == "packed":
        return RoundCosts(batching="packed", fixed_ms=float(draw(step)), per_session_ms=own, sessions_max=most)
    rises = [draw(step) for _ in range(most)]
    crowding = tuple(float(sum(rises[: n + 1])) for n in range(most))
    return RoundCosts(batching="turboserve", base_ms=own, crowding_ms=crowding, sessions_max=most)


@st.composite
def type_limits(draw: st.DrawFn, batching: str, state_gib: tuple[float, ...]) -> TypeLimits:
    return TypeLimits(
        costs=draw(round_costs(batching, len(state_gib))),
        memory_gib=draw(st.sampled_from([100.0, 3.0, 2.0, 100.0, 1.0, 0.3])),
        state_gib=state_gib,
    )


@st.composite
def tiny_problems(draw: st.DrawFn, periods_max: int = 3, gpus_max: int = 2) -> OfflineProblem:
    """A few microseconds long: one dollar or more per GPU and microsecond, half a dollar or more per migration."""
    batching = draw(st.sampled_from(["grouped", "packed", "turboserve"]))
    classes, gpus = draw(st.integers(1, 2)), draw(st.sampled_from([gpus_max, *range(1, gpus_max)]))
    epoch_us, epochs = draw(st.integers(2, 4)), draw(st.sampled_from([3, 2, 3, 1]))
    state_gib = tuple(draw(st.sampled_from([0.1, 1.0, 1.5])) for _ in range(classes))
    types = draw(st.integers(1, 2))
    bodies = sorted(
        draw(
            st.lists(
                _bodies(epoch_us * epochs, classes),
                min_size=draw(st.sampled_from([periods_max, 1])),
                max_size=periods_max,
            )
        )
    )
    horizon_us = max(end for _, end, _, _ in bodies)
    with_start = draw(st.booleans())
    always_on = st.sampled_from([False, False, True]) if draw(st.booleans()) else st.just(False)
    on_us = (
        st.sampled_from([NEVER_ON, NEVER_ON, 0, -1, -3, -epoch_us, -2 * epoch_us]) if with_start else st.just(NEVER_ON)
    )
    home = st.integers(-1, gpus - 1) if with_start else st.just(-1)
    transfers = tuple(draw(st.sampled_from([0.5e-6, 1e-6, 3e-6])) for _ in range(classes))
    extra = draw(st.sampled_from([0.0, 0.5e-6]))
    return OfflineProblem(
        start_us=np.array([body[0] for body in bodies], dtype=np.int64),
        end_us=np.array([body[1] for body in bodies], dtype=np.int64),
        class_index=np.array([body[2] for body in bodies], dtype=np.int32),
        priority=np.array([body[3] for body in bodies], dtype=np.int32),
        home=np.array([draw(home) if body[0] == 0 else -1 for body in bodies], dtype=np.int32),
        epoch_us=epoch_us,
        epochs=-(-horizon_us // epoch_us),
        types=tuple(draw(type_limits(batching, state_gib)) for _ in range(types)),
        target_ms=tuple(draw(st.sampled_from([9.0, 5.0, 20.0, 3.0, 1.0])) for _ in range(classes)),
        state_gib=state_gib,
        price_per_hour=tuple(draw(st.integers(1, 3)) * DOLLAR_PER_US for _ in range(types)),
        startup_us=tuple(draw(st.sampled_from([0, 1, epoch_us, epoch_us + 1, 2 * epoch_us])) for _ in range(types)),
        gpu_type=np.array(sorted(draw(st.integers(0, types - 1)) for _ in range(gpus)), dtype=np.int32),
        gpu_node=np.array(sorted(draw(st.integers(0, 1)) for _ in range(gpus)), dtype=np.int32),
        gpu_always_on=np.array([draw(always_on) for _ in range(gpus)], dtype=np.bool_),
        gpu_on_us=np.array([draw(on_us) for _ in range(gpus)], dtype=np.int64),
        transfer_same_s=transfers,
        transfer_cross_s=tuple(transfer + extra for transfer in transfers),
        budget=draw(_budgets()),
        earliest_on_us=draw(st.sampled_from([-(2**62), -(2**62), 0, -epoch_us])),
    )


def _bodies(horizon_us: int, classes: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    """(start, end, class, priority)"""
    start = st.one_of(st.just(0), st.just(0), st.integers(0, horizon_us - 1))
    return start.flatmap(
        lambda begin: st.tuples(
            st.just(begin),
            st.one_of(st.just(horizon_us), st.integers(begin + 1, horizon_us)),
            st.integers(0, classes - 1),
            st.sampled_from([0, 0, 1]),
        )
    )


def _budgets() -> st.SearchStrategy[MoveBudget]:
    few = st.sampled_from([UNLIMITED, 0, 1])
    some = st.builds(
        MoveBudget, moves=few, out_per_gpu=few, in_per_gpu=few, gib=st.sampled_from([float("inf"), 0.1, 1.0, 2.0])
    )
    return st.one_of(st.just(MoveBudget()), st.just(MoveBudget()), some)


@st.composite
def moving_problems(draw: st.DrawFn) -> OfflineProblem:
    """Tiny problems in which sessions begin on a dear GPU and a cheap or empty one becomes usable later.

    Memory and budgets are tight now and then, so that moving is wanted but not always allowed.
    """
    problem = draw(tiny_problems())
    epoch_us, gpus = 3, draw(st.sampled_from([2, 3]))
    starts = sorted(draw(st.lists(st.sampled_from([0, 0, 0, 1, 3]), min_size=2, max_size=4 - (gpus > 2))))
    ends = [draw(st.sampled_from([9, 9, 8, 6, 5])) for _ in starts]
    state_gib = tuple(draw(st.sampled_from([1.0, 1.5])) for _ in range(problem.classes))
    batching = problem.types[0].costs.batching
    later = st.sampled_from([0, NEVER_ON, NEVER_ON])
    return replace(
        problem,
        start_us=np.array(starts, dtype=np.int64),
        end_us=np.array(ends, dtype=np.int64),
        class_index=np.array([draw(st.integers(0, problem.classes - 1)) for _ in starts], dtype=np.int32),
        priority=np.array([draw(st.sampled_from([0, 0, 1])) for _ in starts], dtype=np.int32),
        home=np.array([draw(st.sampled_from([0, -1])) if start == 0 else -1 for start in starts], dtype=np.int32),
        epoch_us=epoch_us,
        epochs=-(-max(ends) // epoch_us),
        types=tuple(
            replace(draw(type_limits(batching, state_gib)), memory_gib=draw(st.sampled_from([2.0, 3.0, 4.0, 100.0])))
            for _ in range(2)
        ),
        target_ms=tuple(draw(st.sampled_from([20.0, 9.0, 5.0])) for _ in range(problem.classes)),
        state_gib=state_gib,
        price_per_hour=(3 * DOLLAR_PER_US, draw(st.integers(1, 3)) * DOLLAR_PER_US),
        startup_us=(draw(st.sampled_from([0, 1, 3])), draw(st.sampled_from([3, 1, 4]))),
        gpu_type=np.array([0, 1, 1][:gpus], dtype=np.int32),
        gpu_node=np.array([0, draw(st.integers(0, 1)), 1][:gpus], dtype=np.int32),
        gpu_always_on=np.zeros(gpus, dtype=np.bool_),
        gpu_on_us=np.array([-3, draw(later), draw(later)][:gpus], dtype=np.int64),
    )
