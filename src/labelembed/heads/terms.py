"""What the implementations of the label-embedding head share: its terms and its settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from labelembed import whole_batch


class HeadTerms(NamedTuple):
    """Terms of the label-embedding head: scalars; all but `total` not weighted, 0 where one has no part."""

    total: Tensor
    output: Tensor
    target: Tensor
    auxiliary: Tensor
    hinge: Tensor
    embedding: Tensor
    uniform: Tensor


class HeadSettings(NamedTuple):
    """Numbers of the label-embedding head, as `LabelEmbedding` explains them."""

    temperature: float
    confidence_limit: float
    hinge_norm: Literal[1, 2]
    hinge_reduction: Literal["mean", "sum"]
    output_weight: float
    target_weight: float | Tensor
    uniform_weight: float
    shared: bool = False
    """Whether E learns from the first output, and there is no second."""

    def row_factor(self, count: Tensor | int, *, like: Tensor) -> Tensor | float:
        """Returns 1 / the number of rows of the whole step that count."""
        return whole_batch.mean_factor(count, like=like)

    def hinge_factor(self, row_factor: Tensor | float) -> Tensor | float:
        """Returns what the sum of the hinge over this process' rows is multiplied with."""
        return row_factor if self.hinge_reduction == "mean" else whole_batch.sum_factor()


def full_precision(values: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32, anything else as it is: softmax and sums need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
