"""The labels nearest to some labels, for many labels: a block of scores at a time, never [C, C]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Scores of a block, in float64 64 MiB.
_SCORES_AT_ONCE = 1 << 23
_VECTORS_AT_ONCE = 1_024


def nearest_labels(
    table: Tensor,
    asked: Sequence[int],
    k: int,
    *,
    kind: Literal["euclidean", "cosine", "similarities"],
    coarse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns for each label asked for the k others that are most like it, most alike first.

    Equal scores come in the order of the labels, so that every machine gives the same. All is computed in float64;
    memory is a block's, and that of the vectors at this precision where many labels are asked for.

    Args:
        table: [C, D] vectors, or [C, C] the logits of soft targets.
        asked: [n] numbers of labels.
        k: How many others; at most C - 1 are there.
        kind: How likeness is scored: minus the distance, the cosine, or the probability in the asked label's soft
            target.
        coarse: In float32 and by products of matrices: several times as fast for tens of thousands of vectors, right to
            about six digits of the largest score; labels that are closer to each other than that may change places.

    Returns:
        The others' numbers [n, k] and their scores [n, k], float64.
    """
    labels = table.shape[0]
    k = min(max(k, 0), labels - 1)
    numbers, scores = torch.empty(len(asked), k, dtype=torch.int64), torch.empty(len(asked), k, dtype=torch.float64)
    if k == 0 or not len(asked):
        return numbers, scores
    table = table.detach().cpu()
    places = torch.as_tensor(asked, dtype=torch.int64)
    rows = max(1, _SCORES_AT_ONCE // labels)
    if coarse and kind != "similarities":
        return _coarse(table.float(), places, k, rows=rows, kind=kind)
    pieces: Iterable[Tensor] = (piece.double() for piece in torch.split(table, _VECTORS_AT_ONCE))
    if kind != "similarities" and len(places) > rows:
        pieces = list(pieces)  # for one block of labels alone each is made where it is used, which is faster
    for start in range(0, len(places), rows):
        block = places[start : start + rows]
        found = _scores(table[block].double(), pieces, kind)
        found[torch.arange(len(block)), block] = -torch.inf  # no label is a neighbour of itself
        scores[start : start + rows], numbers[start : start + rows] = _largest(found, k)
    return numbers, scores


def _coarse(table: Tensor, places: Tensor, k: int, *, rows: int, kind: str) -> tuple[Tensor, Tensor]:
    table = F.normalize(table, dim=1, eps=1e-12) if kind == "cosine" else table - table.mean(dim=0)
    squares = table.square().sum(dim=1)
    numbers, values = torch.empty(len(places), k, dtype=torch.int64), torch.empty(len(places), k, dtype=torch.float64)
    for start in range(0, len(places), rows):
        block = places[start : start + rows]
        found = table[block] @ table.T
        if kind != "cosine":
            found -= squares / 2  # minus half the squared distance, but for what is the same in the whole row
        found[torch.arange(len(block)), block] = -torch.inf
        # Copied: what topk returns holds on to all that it has sorted.
        values[start : start + rows], numbers[start : start + rows] = found.topk(k, dim=1)
    if kind != "cosine":
        values = -(squares[places].double()[:, None] - 2 * values).clamp_min(0).sqrt()
    return numbers, values


def _scores(points: Tensor, pieces: Iterable[Tensor], kind: str) -> Tensor:
    """Returns the scores [n, C] of rows [n, ...] of the table with all of its rows."""
    if kind == "similarities":
        return points.softmax(dim=1)
    if kind == "cosine":
        points = F.normalize(points, dim=1)
        parts = [points @ piece.T / torch.linalg.vector_norm(piece, dim=1).clamp_min(1e-12) for piece in pieces]
        # The last digit of a product depends on how many rows it is made with, and equal vectors are to be equal.
        return torch.cat(parts, dim=1).round_(decimals=12)
    # The exact form, not the one by inner products, whose rounding shows between close labels.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cat([-torch.cdist(points, piece, compute_mode=mode) for piece in pieces], dim=1)


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k largest of each row and their places; of equal ones the first."""
    values, places = scores.topk(k, dim=1)
    places, order = places.sort(dim=1)
    values, order = values.gather(1, order).sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    # Where the smallest of them has equals beyond, `topk` has taken any of these.
    for row in ((scores >= values[:, -1:]).sum(dim=1) > k).nonzero().flatten().tolist():
        ordered = scores[row].sort(descending=True, stable=True)
        values[row], places[row] = ordered.values[:k], ordered.indices[:k]
    return values, places
