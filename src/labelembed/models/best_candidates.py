"""The largest values of each row of [N, C], with ties broken by position, without sorting the rows."""

from __future__ import annotations

import torch
from torch import Tensor

# Columns that are looked at together, and from how many columns on that is worth it; measured at 8,000 columns.
_BLOCK = 32
_MANY = 1024


def best_candidates(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the `count` largest values of each row and their columns; of equal values the first columns.

    Args:
        values: [N, C].
        count: How many of each row; all of them when C is smaller.

    Shapes: returns [N, min(count, C)] twice, largest first, equal values by column. Which columns stand for
    values of minus infinity is not defined.
    """
    columns = values.shape[1]
    if count >= columns:
        return _by_column(values, torch.arange(columns, device=values.device).expand_as(values))
    # One more than asked for shows whether the last one has an equal that was left out.
    found, places = _largest(values, count + 1)
    last = found[:, count - 1]
    cut = ((last == found[:, count]) & (last > -torch.inf)).nonzero()[:, 0]
    found, places = found[:, :count], places[:, :count]
    if len(cut):
        ordered, order = values[cut].sort(dim=1, descending=True, stable=True)
        found, places = found.clone(), places.clone()
        found[cut], places[cut] = ordered[:, :count], order[:, :count]
    return _by_column(found, places)


def _largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns what `topk` does, ties in any order."""
    columns = values.shape[1]
    blocks = columns // _BLOCK
    if columns < _MANY or blocks < 4 * count:
        found, places = values.topk(count, dim=1)
        return found, places
    # The `count` largest stand in the `count` blocks whose maxima are largest, or in the columns left over.
    blocked = values[:, : blocks * _BLOCK].reshape(len(values), blocks, _BLOCK)
    chosen = blocked.amax(-1).topk(count, dim=1, sorted=False).indices
    inside = torch.arange(_BLOCK, device=values.device)
    kept = (chosen[..., None] * _BLOCK + inside).flatten(1)
    rest = torch.arange(blocks * _BLOCK, columns, device=values.device)
    kept = torch.cat([kept, rest.expand(len(values), -1)], dim=1)
    found, within = values.gather(1, kept).topk(count, dim=1)
    return found, kept.gather(1, within)


def _by_column(values: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Returns both sorted by value, largest first, and equal values by column."""
    columns, order = columns.sort(dim=1)
    found, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    return found, columns.gather(1, order)
