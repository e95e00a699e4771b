"""What the implementations of the label-embedding head share: its terms and its settings."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.heads.sampling import sampled_rows


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
    group: whole_batch.Group = None
    """The processes that share the step, see `whole_batch`; None: all that are up."""
    auxiliary_fraction: float = 1.0
    """The share of the rows that the second output and E learn from, in (0, 1]; see `sampling.sampled_rows`."""
    auxiliary_offset: float = 0.0
    """Which rows those are, in [0, 1)."""
    auxiliary_dtype: torch.dtype | None = None
    """Type of the second output's products; None: that of the first's."""
    sparse_gradients: bool = False
    """Whether the gradient of a full E holds only the rows of the labels that were there."""

    def sample(self, labels: Tensor) -> Tensor | None:
        """Returns the rows [k] that the second output and E learn from; None: all of them."""
        if self.auxiliary_fraction == 1:
            return None
        return sampled_rows(labels, self.auxiliary_fraction, self.auxiliary_offset)

    def row_factor(self, count: int, *, like: Tensor) -> Tensor | float:
        """Returns 1 / the number of rows of the whole step that count."""
        return whole_batch.mean_factor(count, like=like, group=self.group)

    def mean_over_right(self, total: Tensor, count: Tensor, *, rows: int) -> tuple[Tensor, Tensor | float]:
        """Returns the mean over the rows that are right, and its factor; of a micro-batch, times its share of the rows.

        How many rows of a whole step are right is not known before its last micro-batch.

        Args:
            total: The sum over this process' rows of this micro-batch that are right.
            count: How many these are.
            rows: How many rows this process has in the micro-batch, right or wrong.
        """
        factor = whole_batch.count_factor(count, like=total, group=self.group)
        factor = factor * whole_batch.share_of_step(rows, like=total, group=self.group)
        return total * factor, factor

    def hinge_factor(self, row_factor: Tensor | float) -> Tensor | float:
        """Returns what the sum of the hinge over this process' rows is multiplied with."""
        return row_factor if self.hinge_reduction == "mean" else whole_batch.sum_factor(self.group)


def full_precision(values: Tensor) -> Tensor:
    """Returns float16 and bfloat16 as float32, anything else as it is: softmax and sums need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def require_auxiliary(faults: ArgumentFaults, settings: HeadSettings) -> None:
    """Notes what is wrong with the settings of how the second layer and E are computed."""
    fraction, offset = settings.auxiliary_fraction, settings.auxiliary_offset
    faults.require(0 < fraction <= 1, "auxiliary_fraction", fraction, "must be in (0, 1]")
    faults.require(0 <= offset < 1, "auxiliary_offset", offset, "must be in [0, 1)")
    faults.choice("auxiliary_dtype", settings.auxiliary_dtype, (None, torch.bfloat16))


def require_no_auxiliary(faults: ArgumentFaults, settings: HeadSettings, *, where: str) -> None:
    """Notes settings of how the second layer and E are computed that are not there in some form of the head."""
    fraction, kind = settings.auxiliary_fraction, settings.auxiliary_dtype
    faults.require(fraction == 1, "auxiliary_fraction", fraction, f"must be 1 {where}")
    faults.require(kind is None, "auxiliary_dtype", str(kind), f"must be None {where}")
