"""The least that any schedule pays to have so many GPUs on in each epoch, one GPU type.

Decides a closed form; must never know where the numbers come from.
"""

from __future__ import annotations

from scheduler.verify.sweep import Ints


def covering_epochs(need: Ints, start_epochs: int) -> int:
    """GPU-epochs paid to cover `need` (GPUs per epoch), where each start costs `start_epochs` more.

    The i-th GPU is needed in the epochs with need >= i. Each such layer stands alone: it pays its epochs, one start,
    and in each gap the lesser of the gap and another start. Layers that fall together are kept as one entry of a stack,
    so the work grows with the number of changes of `need`.
    """
    paid, level = 0, 0
    resting: list[tuple[int, int]] = []  # (number of layers, epoch after their last run), the lowest layers on top
    fresh = 0  # layers seen at all
    for epoch, wanted in enumerate(need.tolist()):
        paid += wanted
        if wanted < level:
            resting.append((level - wanted, epoch))
        while level < wanted and resting:
            layers, since = resting.pop()
            woken = min(layers, wanted - level)
            paid += woken * min(epoch - since, start_epochs)
            level += woken
            if woken < layers:
                resting.append((layers - woken, since))
        if level < wanted:
            paid += (wanted - max(level, fresh)) * start_epochs
            fresh = wanted
        level = wanted
    return paid
