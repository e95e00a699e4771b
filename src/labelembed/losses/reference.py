"""The losses in plain lines: the definition of correct, and what runs below some thousand labels.

Letters as in the papers: z logits [n, C], e rows of the label embedding [n, C], y labels [n], p = softmax(z). Every
function returns one number for each example [n]; who calls it takes the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LabelEmbeddingTerms(NamedTuple):
    """Terms of `LabelEmbedding`: scalars; all but `total` unweighted, 0 where a term has no part."""

    total: Tensor
    output: Tensor
    target: Tensor
    auxiliary: Tensor
    hinge: Tensor
    embedding: Tensor
    uniform: Tensor


def full_precision(values: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32, anything else as it is: softmax and sums need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_softmax(logits: Tensor) -> Tensor:
    """Returns log softmax(z) [n, C], in at least float32."""
    return F.log_softmax(full_precision(logits), dim=-1)


def cross_entropy(log_p: Tensor, labels: Tensor) -> Tensor:
    """Returns CE(onehot(y), z) [n] of log p [n, C] (Sun et al. 2017, eq. 7 and 8)."""
    return F.nll_loss(log_p, labels, reduction="none")


def target_cross_entropy(log_targets: Tensor, log_p: Tensor) -> Tensor:
    """Returns CE(q, z) [n] of log q [n, C], through which no gradient goes, and log p [n, C] (eq. 13)."""
    return -(log_targets.detach().exp() * log_p).sum(dim=-1)


def uniform_cross_entropy(log_p: Tensor) -> Tensor:
    """Returns CE(1/C, z) [n] of log p [n, C]: the uniform component of label smoothing."""
    return -log_p.mean(dim=-1)


def hinge(log_p_true: Tensor, limit: float) -> Tensor:
    """Returns max(0, p_y - limit) [n] of log p_y [n] (eq. 12, with the norm p = 1)."""
    return F.relu(log_p_true.exp() - limit)


def embedding_cross_entropy(z: Tensor, log_e: Tensor, temperature: float) -> Tensor:
    """Returns CE(softmax(sg(z) / temperature), e) [n] of log softmax(e) [n, C] (eq. 10 and 11)."""
    softened = F.softmax(full_precision(z.detach()) / temperature, dim=-1)
    return -(softened * log_e).sum(dim=-1)
