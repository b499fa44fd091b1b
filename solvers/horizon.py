"""How many GPUs are on in each epoch: cheapest counts that cover a need, with start-up paid.

Decides counts per epoch from needs per epoch; must never know sessions or which GPU it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

CountArray = npt.NDArray[np.int64]


def cheapest_counts(need: CountArray, lead: int) -> CountArray:
    """GPUs on per epoch at least cost, layer by layer: a layer stays on through a gap no longer than `lead` epochs.

    `lead` is the start-up in whole epochs, which every switching on pays again. Exact: the program
    min sum m + lead * starts, m >= need, is totally unimodular and separates into layers.
    """
    counts = need.copy()
    for level in range(1, int(need.max(initial=0)) + 1):
        on = np.flatnonzero(need >= level)
        gaps = np.diff(on) - 1
        for index in np.flatnonzero((gaps > 0) & (gaps <= lead)):
            between = slice(on[index] + 1, on[index + 1])
            counts[between] = np.maximum(counts[between], level)
    return counts


def paid_epochs(counts: CountArray, lead: int, on_before: int = 0) -> int:
    """Epochs paid for these counts: each start pays `lead` more; `on_before` GPUs are on before the first epoch."""
    starts = np.maximum(np.diff(counts, prepend=on_before), 0)
    return int(counts.sum() + lead * starts.sum())


def least_paid_epochs(need: CountArray, lead: int, on_before: int = 0) -> int:
    """The least epochs any schedule pays that has `need` GPUs usable in each epoch.

    A GPU that is on before the first epoch may stay on until it is needed, or be switched off and started again.
    """
    if on_before == 0:
        return paid_epochs(cheapest_counts(need, lead), lead)
    padded = np.concatenate([[on_before], need])
    counts = cheapest_counts(padded.astype(np.int64), lead)[1:]
    return paid_epochs(counts, lead, on_before)
