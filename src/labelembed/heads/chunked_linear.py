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


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, options: _Options
    ) -> tuple[Tensor, ...]:
        needs = [options.learns and need for need in ctx.needs_input_grad[:3]]
        smoothing = options.label_smoothing
        rows = hidden.to(options.dtype)
        layer = LinearChunks(weight, bias, dtype=options.dtype, learns=(needs[1], needs[2]))
        even = EvenShare(layer, rows)
        exact = even.rows_sum
        row_factor = float(whole_batch.mean_factor(labels.shape[0], like=exact))
        normalisers, true = exact.new_zeros(()), exact.new_zeros(())
        d_hidden = torch.empty(hidden.shape, dtype=exact.dtype, device=hidden.device) if needs[0] else None
        most = min(options.chunk_rows, len(rows))
        buffer = scratch("first", most, weight.shape[0], like=exact)
        scale = exact.new_full((most,), row_factor)
        for begin in range(0, len(rows), options.chunk_rows):
            chunk = rows[begin : begin + options.chunk_rows]
            index = labels[begin : begin + options.chunk_rows, None]
            slopes = layer.logits(chunk, out=buffer[: len(chunk)])
            values = slopes.gather(1, index)
            torch.softmax(slopes, dim=1, out=slopes)
            normalisers += log_normalisers(slopes, index, values, layer, chunk).sum()
            true += values.sum()
            if not any(needs):
                continue
            slopes.scatter_add_(1, index, torch.full_like(values, smoothing - 1))
            layer.fold(slopes, chunk, scale[: len(chunk)])
            if d_hidden is not None:
                layer.back(slopes, d_hidden[begin : begin + len(chunk)])
        output = (normalisers - true) * row_factor
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
        return (*made, None, None)


def cross_entropy_terms(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, label_smoothing: float, chunk_rows: int
) -> CrossEntropyTerms:
    """Computes the terms of `heads.linear_cross_entropy` in chunks; only `total` can be differentiated, once."""
    options = _Options(label_smoothing, chunk_rows, compute_dtype(hidden), torch.is_grad_enabled())
    with torch.autocast(hidden.device.type, enabled=False):
        return CrossEntropyTerms(*_CrossEntropy.apply(hidden, weight, bias, labels, options))


def plain_terms(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, label_smoothing: float
) -> CrossEntropyTerms:
    """Computes the terms of `heads.linear_cross_entropy` in plain lines: the definition of correct."""
    logits = full_precision(torch.nn.functional.linear(hidden, weight, bias))
    log_probabilities = torch.log_softmax(logits, dim=-1)
    row_factor = whole_batch.mean_factor(labels.shape[0], like=log_probabilities)
    output = torch.nn.functional.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
    uniform = -log_probabilities.sum() / weight.shape[0] * row_factor
    return CrossEntropyTerms((1 - label_smoothing) * output + label_smoothing * uniform, output, uniform)
