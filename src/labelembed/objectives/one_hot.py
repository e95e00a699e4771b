"""The baseline: cross entropy with one right label."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.losses import IMPLEMENTATIONS, Implementation, chunked, full_precision, takes_chunks
from labelembed.objectives.objective import Objective


class OneHotTerms(NamedTuple):
    """Terms of `OneHot`: scalars."""

    total: Tensor
    output: Tensor


class OneHot(Objective):
    """Cross entropy of the output with the one-hot label (Sun et al. 2017, eq. 4).

    ``output = CE(onehot(y), z)``, a mean over the rows that count; ``total = output``.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.
        impl: `reference`: plain lines; `chunked`: never the logits of all rows at once; `auto`: chunks for many labels.

    Example:
        >>> import torch
        >>> objective = OneHot(8, 3)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, -100]))
        >>> bool(terms.total == terms.output)
        True
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
        impl: Implementation = "auto",
    ) -> None:
        faults = ArgumentFaults()
        faults.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.impl = impl

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> OneHotTerms:
        """Computes the terms; see `Objective.forward`."""
        hidden, labels = self.counted(hidden, labels)
        if takes_chunks(self.impl, self.num_labels, self.output):
            ones = full_precision(hidden).new_ones(len(labels))
            scales = ones * whole_batch.mean_factor(len(labels), like=ones, group=self.step_group)
            first = self.output.weight, self.output.bias
            total = chunked.label_embedding_terms(
                hidden, labels, scales, scales, first, None, None, chunked.Settings()
            ).total
            return OneHotTerms(total=total, output=total)
        logits = full_precision(self.output(hidden))
        row_factor = whole_batch.mean_factor(labels.shape[0], like=logits, group=self.step_group)
        output = F.cross_entropy(logits, labels, reduction="sum") * row_factor
        return OneHotTerms(total=output, output=output)
