"""Distributions over labels kept whole or by their largest entries, and the cross entropy with them.

A sparse target is ``values [k]`` and ``labels [k]``; what the values leave of 1 is spread evenly over the other labels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.losses.reference import full_precision


class SparseTargets(NamedTuple):
    """Distributions [n, C] by their k largest entries: their values [n, k] and labels [n, k] (int64)."""

    values: Tensor
    labels: Tensor


def label_type(num_labels: int) -> torch.dtype:
    """Returns the smallest integer type that holds the numbers 0..C-1."""
    return torch.int16 if num_labels <= 2**15 else torch.int32


def sparse(probabilities: Tensor, k: int) -> SparseTargets:
    """Returns the k largest entries of distributions [n, C]."""
    return SparseTargets(*probabilities.topk(min(k, probabilities.shape[1]), dim=1))


def dense(targets: SparseTargets, num_labels: int) -> Tensor:
    """Returns the distributions [n, C] of sparse targets."""
    each = _elsewhere(targets, num_labels)
    return each.expand(-1, num_labels).scatter(1, targets.labels, targets.values)


def _elsewhere(targets: SparseTargets, num_labels: int) -> Tensor:
    """Returns the probability [n, 1] of each label that is not among the largest."""
    others = num_labels - targets.labels.shape[1]
    rest = (1 - targets.values.sum(dim=1, keepdim=True)).clamp_min(0)
    return rest / others if others else torch.zeros_like(rest)


def soft_cross_entropy(targets: Tensor | SparseTargets, log_probabilities: Tensor) -> Tensor:
    """Returns CE(target, p) [n] for log p [n, C]; of sparse targets no [n, C] tensor is made."""
    if isinstance(targets, Tensor):
        return -(targets * log_probabilities).sum(dim=1)
    each = _elsewhere(targets, log_probabilities.shape[1])
    at = log_probabilities.gather(1, targets.labels)
    largest = ((targets.values - each) * at).sum(dim=1)
    return -largest - each.squeeze(1) * log_probabilities.sum(dim=1)


def entropy(targets: Tensor | SparseTargets, num_labels: int) -> Tensor:
    """Returns the entropy [n] of distributions, in nats; 0 log 0 is 0."""
    values = targets if isinstance(targets, Tensor) else targets.values
    found: Tensor = torch.special.entr(full_precision(values)).sum(dim=1)
    if isinstance(targets, Tensor):
        return found
    others = num_labels - targets.labels.shape[1]
    rest: Tensor = torch.special.entr(_elsewhere(targets, num_labels)).squeeze(1)
    return found + others * rest
