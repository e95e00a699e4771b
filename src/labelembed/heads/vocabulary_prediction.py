"""Predicting over many labels; with labels that are split over processes all of them must call together."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.heads.chunks import default_chunk_rows
from labelembed.heads.label_shards import LabelShards, to_owners


def top_k_of(logits_of: Callable[[Tensor], Tensor], hidden: Tensor, num_labels: int, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k highest logits [..., k] of hidden rows [..., H] and their labels; only some rows' logits at a time.

    Args:
        logits_of: Returns the logits [c, C] of some rows [c, H].
        hidden: The rows.
        num_labels: C.
        k: In 1..C.
    """
    rows = torch.split(hidden.reshape(-1, hidden.shape[-1]), default_chunk_rows(num_labels))
    best = [logits_of(some).topk(k, dim=-1) for some in rows]
    scores, labels = (torch.cat(parts).view(*hidden.shape[:-1], k) for parts in zip(*best, strict=True))
    return scores, labels


@torch.no_grad()
def logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, shards: LabelShards) -> Tensor:
    """Returns the logits [..., C] of this process' hidden rows [..., H] over all labels, without gradient.

    Each number crosses from the process that has its label: of many rows and labels dear, in time and memory. Where
    the rows are the same in all processes, as in an evaluation that each makes of all rows, they are computed once
    and are equal to the last bit everywhere.

    Args:
        hidden: Rows of this process; another number of them than in other processes, or none.
        weight: [C / processes, H], the rows of this process' labels.
        bias: [C / processes] or None.
        shards: Which labels are whose.
    """
    own = hidden.reshape(-1, hidden.shape[-1])
    counts = whole_batch.row_counts(len(own), device=own.device)
    (rows,) = whole_batch.gathered(own, counts=counts)
    if len(set(counts)) == 1 and bool((rows.view(len(counts), *own.shape) == rows[: len(own)]).all()):
        return shards.whole(F.linear(own, weight, bias), dimension=1).reshape(*hidden.shape[:-1], shards.num_labels)
    of_all = F.linear(rows, weight, bias)
    most = max(shards.sizes)  # so that what crosses is of one shape
    padded = of_all.new_zeros(len(rows), most)
    padded[:, : shards.count] = of_all
    parts = to_owners(padded, counts, own=shards.process)
    found = torch.cat([part[:, :size] for part, size in zip(parts, shards.sizes, strict=True)], dim=1)
    return found.reshape(*hidden.shape[:-1], shards.num_labels)


@torch.no_grad()
def top_k(hidden: Tensor, weight: Tensor, bias: Tensor | None, shards: LabelShards, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k highest logits [..., k] of this process' hidden rows [..., H] and their labels [..., k].

    Each process finds the best of its labels for the rows of all, and the rows' owners take the best of those: only
    k numbers a row and process cross, and no more than some rows' logits are held.

    Args:
        hidden: Rows of this process; another number of them than in other processes, or none.
        weight: [C / processes, H], the rows of this process' labels.
        bias: [C / processes] or None.
        shards: Which labels are whose.
        k: In 1..C.
    """
    own = hidden.reshape(-1, hidden.shape[-1])
    counts = whole_batch.row_counts(len(own), device=own.device)
    (rows,) = whole_batch.gathered(own, counts=counts)
    scores = F.linear(rows[:0], weight, bias).new_full((len(rows), k), -torch.inf)
    labels = torch.zeros(len(rows), k, dtype=torch.int64, device=rows.device)
    least = min(k, shards.count)
    at_once = default_chunk_rows(shards.count)
    for begin in range(0, len(rows), at_once):
        best = F.linear(rows[begin : begin + at_once], weight, bias).topk(least, dim=1)
        scores[begin : begin + at_once, :least] = best.values
        labels[begin : begin + at_once, :least] = best.indices + shards.begin
    candidates = [to_owners(found, counts, own=shards.process).movedim(0, 1).flatten(1) for found in (scores, labels)]
    best = candidates[0].topk(k, dim=1)
    shape = (*hidden.shape[:-1], k)
    return best.values.view(shape), candidates[1].gather(1, best.indices).view(shape)
