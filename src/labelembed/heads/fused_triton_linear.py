"""An output layer over chunks of rows on a GPU, and the cross entropy upon it, with kernels in the place of passes.

The logits of a chunk are made in the type of the products and overwritten by their slopes, which are rounded once.
Products are cuBLAS'; sums over chunks are float32 (float64 for float64).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed import whole_batch
from labelembed.heads import fused_triton_launch as launch
from labelembed.heads import gradients_made
from labelembed.heads.chunked_linear import CrossEntropyTerms
from labelembed.heads.chunks import compute_dtype
from labelembed.heads.terms import full_precision

# To add a chunk's part to the weight's gradient reads and writes 8 bytes for each of its numbers, in which time a fast
# GPU does the product of about 700 rows: so that many rows would double it, and three times as many cost a third.
CHUNK_ROWS = 2048
# Of more than 131,072 labels fewer rows do: memory is dearer there.
CHUNK_NUMBERS = 2**28
# Rows without a common target are overwritten so many at a time.
_TILE_ROWS = 4


@cache
def _adds_in_float32(device: torch.device, dtype: torch.dtype) -> bool:
    """Returns whether this torch adds a product of low precision to a float32 matrix without a matrix between."""
    one = torch.ones(16, 16, dtype=dtype, device=device)
    total = torch.ones(16, 16, device=device)
    try:
        torch.addmm(total, one, one, out_dtype=torch.float32, out=total)
    except (RuntimeError, TypeError):  # this torch, or this device, has no such product
        return False
    return bool((total == 17).all())


def add_product(total: Tensor, left: Tensor, right: Tensor, *, factor: float, begun: bool = True) -> None:
    """Adds ``factor * left @ right`` to a total of as high or higher precision; writes it where nothing has begun."""
    if total.dtype == left.dtype:
        total.addmm_(left, right, alpha=factor, beta=int(begun))
    elif _adds_in_float32(total.device, left.dtype):
        torch.addmm(total, left, right, alpha=factor, beta=int(begun), out_dtype=total.dtype, out=total)
    elif begun:
        total.add_(left @ right, alpha=factor)
    else:
        total.copy_(left @ right).mul_(factor)


class Layer:
    """An output layer over chunks of rows, and its gradients as they add up.

    Args:
        weight: [C, H].
        bias: [C] or None.
        dtype: Of the products.
        learns: Whether gradients of the weight and of the bias are wanted.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, dtype: torch.dtype, learns: tuple[bool, bool]) -> None:
        self.given = weight, bias
        self.weight = weight.to(dtype)
        self.bias = None if bias is None else bias.to(dtype)
        exact = full_precision(weight.new_empty(0, dtype=dtype)).dtype
        self.like = weight.new_empty(0, dtype=exact)
        self.d_weight = weight.new_empty(weight.shape, dtype=exact) if learns[0] else None
        self.d_bias = weight.new_zeros(weight.shape[0], dtype=exact) if learns[1] and bias is not None else None
        self._begun = False

    def buffer(self, rows: int) -> Tensor:
        """Returns memory for the logits of so many rows."""
        return self.weight.new_empty(rows, self.weight.shape[0])

    def logits(self, hidden: Tensor, out: Tensor) -> Tensor:
        """Writes the logits [c, C] of hidden rows [c, H] to the first rows of `out`, and returns those."""
        out = out[: len(hidden)]
        if self.bias is None:
            return torch.mm(hidden, self.weight.T, out=out)
        return torch.addmm(self.bias, hidden, self.weight.T, out=out)

    def fold(self, slopes: Tensor, hidden: Tensor, *, factor: float) -> None:
        """Adds what ``factor * slopes`` [c, C] of rows [c, H] are to weight and bias."""
        if self.d_weight is not None:
            add_product(self.d_weight, slopes.T, hidden, factor=factor, begun=self._begun)
        if self.d_bias is not None:
            self.d_bias.add_(slopes.sum(dim=0, dtype=self.d_bias.dtype), alpha=factor)
        self._begun = True

    def back(self, slopes: Tensor, *, factor: float) -> Tensor:
        """Returns what ``factor * slopes`` [c, C] are to the hidden rows [c, H]."""
        none = slopes.new_zeros(())
        return torch.addmm(none, slopes, self.weight, beta=0, alpha=factor)

    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Returns the gradients of weight and bias in their own types, None where they are not wanted."""
        if self.d_weight is not None and not self._begun:
            self.d_weight.zero_()
        made = zip((self.d_weight, self.d_bias), self.given, strict=True)
        found = [None if grad is None or value is None else grad.to(value.dtype) for grad, value in made]
        return found[0], found[1]


def chunk_size(count: int, num_labels: int, chunk_rows: int | None) -> int:
    """Returns how many of so many rows go into each chunk: as equal as may be, for a small last one costs most."""
    most = min(CHUNK_ROWS, max(1, CHUNK_NUMBERS // num_labels)) if chunk_rows is None else chunk_rows
    return max(1, -(-count // max(1, -(-count // most))))


def rows_by_rows(count: int, *, device: torch.device) -> launch.Pieces:
    """Returns rows in pieces of a few each, which share nothing."""
    starts = torch.arange(0, count, _TILE_ROWS, device=device)
    return launch.Pieces(starts, (starts + _TILE_ROWS).clamp_max_(count), _TILE_ROWS)


def slope_weights(*values: Tensor | float, like: Tensor) -> Tensor:
    """Returns the weights [5] of `launch.overwrite_by_slopes`, without a wait for those that lie on the device."""
    made = like.new_zeros(len(values))
    for place, value in enumerate(values):
        made[place] = value
    return made


def on_device_of(hidden: Tensor) -> AbstractContextManager[Any]:
    """Returns where kernels over these rows are to be started: Triton takes the current GPU, not that of the rows."""
    return torch.cuda.device_of(hidden)  # type: ignore[no-untyped-call]


class _Options(NamedTuple):
    label_smoothing: float
    chunk_rows: int | None
    dtype: torch.dtype
    learns: bool
    group: whole_batch.Group


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, options: _Options
    ) -> tuple[Tensor, ...]:
        needs = [options.learns and need for need in ctx.needs_input_grad[:3]]
        smoothing, (count, num_labels) = options.label_smoothing, (len(hidden), weight.shape[0])
        layer = Layer(weight, bias, dtype=options.dtype, learns=(needs[1], needs[2]))
        row_factor = float(whole_batch.mean_factor(count, like=layer.like, group=options.group))
        d_hidden = torch.empty_like(hidden) if needs[0] else None
        size = chunk_size(count, num_labels, options.chunk_rows)
        buffer = layer.buffer(min(size, count))
        scales = layer.like.new_ones(size)
        weights = slope_weights(1.0, 1 - smoothing, 0.0, smoothing / num_labels, 1.0, like=layer.like)
        sums = layer.like.new_zeros(3)
        for begin in range(0, count, size):
            part = slice(begin, begin + size)
            rows, names = hidden[part].to(options.dtype), labels[part]
            logits = layer.logits(rows, out=buffer)
            known = launch.row_statistics(logits, names, like=layer.like, sharpness=None)
            sums += torch.stack([known.normaliser.sum(), known.true.sum(), known.sums.sum()])
            if not any(needs):
                continue
            pieces = rows_by_rows(len(rows), device=rows.device)
            launch.overwrite_by_slopes(logits, names, known, pieces, None, scales=scales, weights=weights, writes=True)
            layer.fold(logits, rows, factor=row_factor)
            if d_hidden is not None:
                d_hidden[part] = layer.back(logits, factor=row_factor)
        output = (sums[0] - sums[1]) * row_factor
        uniform = (sums[0] - sums[2] / num_labels) * row_factor
        total = (1 - smoothing) * output + smoothing * uniform
        gradients_made.keep(ctx, [d_hidden, *layer.gradients()])
        return total, output, uniform

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        made = gradients_made.hand_out(ctx, grads, name="cross-entropy", way="fused", scale=launch.scale)
        return (*made, None, None)


def cross_entropy_terms(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    *,
    label_smoothing: float,
    chunk_rows: int | None,
    group: whole_batch.Group = None,
) -> CrossEntropyTerms:
    """Computes the terms of `heads.linear_cross_entropy` by kernels; only `total` can be differentiated, once."""
    options = _Options(label_smoothing, chunk_rows, compute_dtype(hidden), torch.is_grad_enabled(), group)
    with torch.autocast(hidden.device.type, enabled=False), on_device_of(hidden):
        return CrossEntropyTerms(*_CrossEntropy.apply(hidden, weight, bias, labels, options))
