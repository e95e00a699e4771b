"""Output layer and cross entropy in one, over many labels: never the logits of all rows at once.

The gradients are made in the forward pass, where the logits of a chunk of rows are at hand: they are overwritten by
their softmax and that by what they change the loss by.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed import whole_batch
from labelembed.heads import gradients_made
from labelembed.heads.chunks import EvenShare, LinearChunks, compute_dtype, log_normalisers, scratch
from labelembed.heads.terms import full_precision


class CrossEntropyTerms(NamedTuple):
    """Terms of a cross entropy with a smoothed label: scalars, `output` and `uniform` not weighted."""

    total: Tensor
    output: Tensor
    uniform: Tensor


class _Options(NamedTuple):
    label_smoothing: float
    chunk_rows: int
    dtype: torch.dtype
    learns: bool
    group: whole_batch.Group


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor | None,
        soft_targets: Tensor | None,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        needs = [options.learns and need for need in ctx.needs_input_grad[:3]]
        smoothing = options.label_smoothing
        rows = hidden.to(options.dtype)
        layer = LinearChunks(weight, bias, dtype=options.dtype, learns=(needs[1], needs[2]))
        even = EvenShare(layer, rows)
        exact = even.rows_sum
        row_factor = float(whole_batch.mean_factor(len(rows), like=exact, group=options.group))
        sums = exact.new_zeros(3)
        d_hidden = torch.empty(hidden.shape, dtype=exact.dtype, device=hidden.device) if needs[0] else None
        most = min(options.chunk_rows, len(rows))
        buffer = scratch("first", most, weight.shape[0], like=exact)
        scale = exact.new_full((most,), row_factor)
        for begin in range(0, len(rows), options.chunk_rows):
            chunk = rows[begin : begin + options.chunk_rows]
            slopes = layer.logits(chunk, out=buffer[: len(chunk)])
            if labels is not None:
                found = _of_labels(slopes, labels[begin : begin + options.chunk_rows, None], layer, chunk, smoothing)
            elif soft_targets is not None:
                found = _of_targets(slopes, soft_targets[begin : begin + options.chunk_rows], layer, chunk, smoothing)
            sums += torch.stack(found)
            if not any(needs):
                continue
            layer.fold(slopes, chunk, scale[: len(chunk)])
            if d_hidden is not None:
                layer.back(slopes, d_hidden[begin : begin + len(chunk)])
        normalisers, weighted, true = sums
        output = (weighted - true) * row_factor
        uniform = (normalisers - even.mean_logits()) * row_factor
        total = (1 - smoothing) * output + smoothing * uniform
        if d_hidden is not None:
            d_hidden.mul_(row_factor)
        d_weight, d_bias = layer.gradients()
        if smoothing > 0:
            even.fold(smoothing * row_factor, d_hidden)
        given = zip((hidden, weight, bias), (d_hidden, d_weight, d_bias), strict=True)
        made = [None if value is None or grad is None else grad.to(value.dtype) for value, grad in given]
        gradients_made.keep(ctx, made)
        return total, output, uniform

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        made = gradients_made.hand_out(ctx, grads, name="cross-entropy")
        return (*made, None, None, None)


def _of_labels(
    logits: Tensor, index: Tensor, layer: LinearChunks, hidden: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Overwrites logits [c, C] by what they change the loss by, times n and less the uniform share.

    Returns:
        Sums over the rows of the normalisers, of the same by how much there is of the target, and of target . z.
    """
    values = logits.gather(1, index)
    torch.softmax(logits, dim=1, out=logits)
    normalisers = log_normalisers(logits, index, values, layer, hidden).sum()
    logits.scatter_add_(1, index, torch.full_like(values, smoothing - 1))
    return normalisers, normalisers, values.sum()


def _of_targets(
    logits: Tensor, targets: Tensor, layer: LinearChunks, hidden: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Does what `_of_labels` does for targets [c, C], which need not sum to 1."""
    targets = targets.to(logits.dtype)
    amount = targets.sum(dim=1, keepdim=True)
    dot = torch.dot(targets.reshape(-1), logits.view(-1))
    best = targets.argmax(dim=1, keepdim=True)
    values = logits.gather(1, best)
    torch.softmax(logits, dim=1, out=logits)
    normalisers = log_normalisers(logits, best, values, layer, hidden)
    logits.mul_((1 - smoothing) * amount + smoothing).sub_(targets, alpha=1 - smoothing)
    return normalisers.sum(), (normalisers * amount).sum(), dot


def cross_entropy_terms(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    *,
    label_smoothing: float,
    chunk_rows: int,
    soft_targets: Tensor | None = None,
    group: whole_batch.Group = None,
) -> CrossEntropyTerms:
    """Computes the terms of `heads.linear_cross_entropy` in chunks; only `total` can be differentiated, once."""
    options = _Options(label_smoothing, chunk_rows, compute_dtype(hidden), torch.is_grad_enabled(), group)
    with torch.autocast(hidden.device.type, enabled=False):
        return CrossEntropyTerms(*_CrossEntropy.apply(hidden, weight, bias, labels, soft_targets, options))


def plain_terms(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    *,
    label_smoothing: float,
    soft_targets: Tensor | None = None,
    group: whole_batch.Group = None,
) -> CrossEntropyTerms:
    """Computes the terms of `heads.linear_cross_entropy` in plain lines: the definition of correct."""
    logits = full_precision(torch.nn.functional.linear(hidden, weight, bias))
    log_probabilities = torch.log_softmax(logits, dim=-1)
    row_factor = whole_batch.mean_factor(hidden.shape[0], like=log_probabilities, group=group)
    if soft_targets is not None:
        output = -(full_precision(soft_targets) * log_probabilities).sum() * row_factor
    elif labels is not None:
        output = torch.nn.functional.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
    uniform = -log_probabilities.sum() / weight.shape[0] * row_factor
    return CrossEntropyTerms((1 - label_smoothing) * output + label_smoothing * uniform, output, uniform)
