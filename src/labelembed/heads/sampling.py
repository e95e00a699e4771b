"""A share of the rows for what need not see all of them: every label gets its share, and every row the same chance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Multiples of it, cut to [0, 1), fall evenly however many there are: no two steps in a row take the same rows.
_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def sampled_rows(labels: Tensor, fraction: float, offset: float) -> Tensor:
    """Returns the rows [k] of a systematic sample over the rows as sorted by label.

    Along the sorted rows ``offset + fraction * place`` is added up, and a row is taken where a whole number is passed.
    So of a label's m rows ``fraction * m`` are taken, rounded up or down (with some other label's rest), and over all
    offsets each row is taken in exactly `fraction` of them.

    Args:
        labels: [n] int64.
        fraction: In (0, 1].
        offset: In [0, 1).
    """
    # On the CPU in float64 whatever the device, so that every device takes the same rows.
    passed = torch.arange(len(labels) + 1, dtype=torch.float64).mul_(fraction).add_(offset).floor_()
    places = torch.diff(passed).nonzero().squeeze(1).to(labels.device, non_blocking=True)
    return torch.argsort(labels, stable=True)[places]


def offset_of_step(step: int) -> float:
    """Returns the offset [0, 1) of a step, from its number alone: the offsets of many steps lie evenly."""
    return math.fmod(step * _GOLDEN_RATIO, 1.0)
