"""How requests become sessions: the choices that every importer shares.

Decides which gaps end an active period or a session; must never know a file format.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from traces.demand import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMapping:
    """What turns a request log into active periods and sessions."""

    gap_merge_s: float = 30.0  # a gap up to this long does not end an active period
    session_cut_s: float = 1800.0  # a gap longer than this ends the session
    token_s: float = 0.05  # active time per output token, where a log has no times of service


def periods_from_requests(
    group: Ints, start_us: Ints, end_us: Ints, mapping: RequestMapping
) -> tuple[Ints, Ints, Ints]:
    """Sessions and their active periods, from requests that belong to groups (conversations).

    Requests may overlap and come in any order. Returns session_index, start_us, end_us, sorted by session and start;
    sessions are numbered in the order of their group and then of time.
    """
    order = np.lexsort((end_us, start_us, group))
    group, start_us, end_us = group[order], start_us[order], end_us[order]
    fresh = np.diff(group, prepend=group[0] - 1) != 0
    base = (np.cumsum(fresh) - 1) * (np.int64(end_us.max()) + 1)  # so that one running maximum serves all groups
    until = np.maximum.accumulate(end_us + base) - base
    gap = np.append(0, start_us[1:] - until[:-1])
    opens = fresh | (gap > round(mapping.gap_merge_s * 1e6))
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(opens)) - 1
    cut = fresh | (gap > round(mapping.session_cut_s * 1e6))
    return (np.cumsum(cut) - 1)[first], start_us[first], until[last]
