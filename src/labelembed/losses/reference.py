"""The losses in plain lines: the definition of correct, and what runs below a thousand labels.

Letters as in the papers: z logits [n, C], e label embeddings [n, C], y labels [n], p = softmax(z). Every loss is
the sum over the examples of each one's loss times its weight, of `weights` [n]: 1/n for a mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LabelEmbeddingTerms(NamedTuple):
    """Terms of `LabelEmbedding`: scalars; all but `total` unweighted, 0 where a term takes no part."""

    total: Tensor
    output: Tensor
    target: Tensor
    auxiliary: Tensor
    hinge: Tensor
    embedding: Tensor
    uniform: Tensor


def full_precision(values: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32, anything else unchanged: softmax and sums need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def log_softmax(logits: Tensor) -> Tensor:
    """Returns log softmax(z) [n, C], in at least float32."""
    z = full_precision(logits)
    # Rows shorter than a vector register take torch several times as long.
    is_narrow = z.shape[1] < 16 and z.device.type == "cpu" and not torch.compiler.is_compiling()
    return F.log_softmax(z.T, dim=0).T if is_narrow else F.log_softmax(z, dim=1)


def weighted_sum(weights: tuple[float, ...], terms: tuple[Tensor, ...]) -> Tensor:
    """Returns the sum of weighted scalars, an operation each: products and sums would be twice as many."""
    total = terms[0].new_zeros(())
    for weight, term in zip(weights, terms, strict=True):
        total = torch.add(total, term, alpha=weight)
    return total


def cross_entropy(log_p: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Returns CE(onehot(y), z) of log p [n, C] (Sun et al. 2017, eq. 7 and 8)."""
    return torch.dot(F.nll_loss(log_p, labels, reduction="none"), weights)


def soft_cross_entropy(targets: Tensor, log_p: Tensor, weights: Tensor) -> Tensor:
    """Returns CE(q, z) of distributions q [n, C] without gradient and log p [n, C] (eq. 13)."""
    return (-weights[:, None] * targets * log_p).sum()


def kl_divergence(targets: Tensor, log_p: Tensor, weights: Tensor) -> Tensor:
    """Returns KL(q || p) in nats, of distributions q [n, C] without gradient and log p [n, C]; 0 log 0 is 0."""
    return soft_cross_entropy(targets, log_p, weights) - torch.dot(torch.special.entr(targets).sum(dim=-1), weights)


def uniform_cross_entropy(log_p: Tensor, weights: Tensor) -> Tensor:
    """Returns CE(1/C, z) of log p [n, C]: the uniform component of label smoothing."""
    return ((weights / -log_p.shape[1])[:, None] * log_p).sum()


def distances(points: Tensor, centres: Tensor) -> Tensor:
    """Returns the Euclidean distances [..., C] of points [..., D] to label vectors [C, D].

    ``sqrt(max(|z|^2 + |c|^2 - 2 z c, 1e-12))``, as Yu, Verma 2022 compute eq. 2: no tensor [N, C, D], and where a point
    equals a vector the gradient is 0. Both are first moved to the mean of the vectors, since the sum loses digits far
    from the origin. float16 and bfloat16 are computed in float32, also under autocast.
    """
    with torch.autocast(points.device.type, enabled=False):
        points, centres = full_precision(points), full_precision(centres)
        middle = centres.detach().mean(dim=0)
        points, centres = points - middle, centres - middle
        lengths = points.square().sum(dim=-1, keepdim=True) + centres.square().sum(dim=-1)
        flat = points.reshape(-1, points.shape[-1])
        squares = torch.addmm(lengths.reshape(-1, centres.shape[0]), flat, centres.T, alpha=-2).view_as(lengths)
        return squares.clamp_min(1e-12).sqrt()
