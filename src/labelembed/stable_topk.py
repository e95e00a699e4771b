"""The largest values of each line of a table, and which of equal ones come first."""

from __future__ import annotations

import torch
from torch import Tensor


def stable_topk(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the `count` largest values of each line and their columns, without sorting the lines.

    Args:
        values: [N, C].
        count: How many of each line; all of them when C is smaller.

    Shapes: returns [N, min(count, C)] twice, largest first, equal values by column. Which columns stand for
    values of minus infinity is not defined.
    """
    # One more than asked for shows whether the last one has an equal that was left out.
    found, columns = values.topk(min(count + 1, values.shape[1]), dim=1)
    last = found[:, :count][:, -1:]
    tied = ((last == found[:, count:]) & (last > -torch.inf)).any(dim=1).nonzero().flatten()
    columns, order = columns[:, :count].sort(dim=1)
    found, order = found[:, :count].gather(1, order).sort(dim=1, descending=True, stable=True)
    columns = columns.gather(1, order)
    if len(tied):
        ordered, order = values[tied].sort(dim=1, descending=True, stable=True)
        found[tied], columns[tied] = ordered[:, :count], order[:, :count]
    return found, columns
