"""The labels nearest to some labels, for many labels: a block of scores at a time, never [C, C]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.stable_topk import stable_topk

# Scores of a block, in float64 64 MiB.
_SCORES_AT_ONCE = 1 << 23


def nearest_labels(
    table: Tensor,
    asked: Sequence[int],
    k: int,
    *,
    kind: Literal["euclidean", "cosine", "similarities"],
    coarse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns for each label asked for the k others that are most like it, most alike first.

    Equal scores come in the order of the labels, so that every machine gives the same, unless `coarse`.

    Args:
        table: [C, D] vectors, or [C, C] the logits of soft targets.
        asked: [n] indices of labels.
        k: How many others; at most C - 1 are there.
        kind: How similarity is scored: minus the distance, the cosine, or the probability in the asked label's soft
            target.
        coarse: Vectors in float32 and distances by products of matrices: several times as fast for tens of thousands
            of vectors, right to about six digits of the largest score.

    Returns:
        The others' indices [n, k] and their scores [n, k], float64.
    """
    k = min(max(k, 0), table.shape[0] - 1)
    if k == 0:
        return torch.empty(len(asked), 0, dtype=torch.int64), torch.empty(len(asked), 0, dtype=torch.float64)
    table = table.detach().cpu()
    if kind != "similarities":
        table = table.to(torch.float32 if coarse else torch.float64)
    if kind == "cosine":
        table = F.normalize(table, dim=1)
    elif kind == "euclidean" and coarse:
        table = table - table.mean(dim=0)  # far from the origin products of vectors lose digits
    found: list[Sequence[Tensor]] = []
    for labels in torch.split(torch.as_tensor(asked, dtype=torch.int64), max(1, _SCORES_AT_ONCE // table.shape[0])):
        scores = _scores(table, labels, kind, coarse)
        scores[torch.arange(len(labels)), labels] = -torch.inf  # no label is a neighbour of itself
        # Copied: what topk returns holds on to all that it has sorted.
        found.append([part.clone() for part in scores.topk(k, dim=1)] if coarse else stable_topk(scores, k))
    values, indices = (torch.cat(parts) for parts in zip(*found, strict=True))
    return indices, values.double()


def _scores(table: Tensor, labels: Tensor, kind: str, coarse: bool) -> Tensor:
    """Returns the scores [n, C] of labels [n] with all labels."""
    rows = table[labels]
    if kind == "similarities":
        return rows.double().softmax(dim=1)
    if kind == "cosine":
        # The last digit of a product depends on how many rows it is made with, and equal vectors are to be equal.
        return rows @ table.T if coarse else (rows @ table.T).round_(decimals=12)
    # The exact form, where it can be had: the rounding of inner products shows between close labels.
    mode = "use_mm_for_euclid_dist" if coarse else "donot_use_mm_for_euclid_dist"
    return -torch.cdist(rows, table, compute_mode=mode)
