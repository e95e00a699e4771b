"""Label smoothing, the control that every claim is compared with."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.losses import IMPLEMENTATIONS, Implementation, chunked, full_precision, takes_chunks
from labelembed.objectives.objective import Objective
from labelembed.objectives.search_space import Range, SearchSpace


class LabelSmoothingTerms(NamedTuple):
    """Terms of `LabelSmoothing`: scalars, `output` and `uniform` not weighted."""

    total: Tensor
    output: Tensor
    uniform: Tensor


class LabelSmoothing(Objective):
    """Cross entropy with the one-hot label mixed with a uniform share (Szegedy et al. 2016).

    ``total = (1 - s) output + s uniform`` with ``output = CE(onehot(y), z)``, ``uniform = CE(1/C, z)``: the
    same as ``F.cross_entropy(..., label_smoothing=s)``.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        smoothing: s, the share of the target spread evenly over all labels, in [0, 1].
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.
        impl: `reference`: plain lines; `chunked`: never the logits of all rows at once; `auto`: chunks for many labels.

    Example:
        >>> import torch
        >>> objective = LabelSmoothing(8, 3, smoothing=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, 0.8 * terms.output + 0.2 * terms.uniform)
        True
    """

    search_space: ClassVar[SearchSpace] = {"smoothing": Range(0.02, 0.9)}

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        smoothing: float = 0.1,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
        impl: Implementation = "auto",
    ) -> None:
        faults = ArgumentFaults()
        faults.require(0 <= smoothing <= 1, "smoothing", smoothing, "must be in [0, 1]")
        faults.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.smoothing = smoothing
        self.impl = impl

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> LabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`."""
        hidden, labels = self.counted(hidden, labels)
        if takes_chunks(self.impl, self.num_labels, self.output):
            ones = full_precision(hidden).new_ones(len(labels))
            scales = ones * whole_batch.mean_factor(len(labels), like=ones, group=self.step_group)
            settings = chunked.Settings(output_weight=1 - self.smoothing, uniform_weight=self.smoothing)
            first = self.output.weight, self.output.bias
            terms = chunked.label_embedding_terms(hidden, labels, scales, scales, first, None, None, settings)
            return LabelSmoothingTerms(total=terms.total, output=terms.output, uniform=terms.uniform)
        log_probabilities = F.log_softmax(full_precision(self.output(hidden)), dim=-1)
        row_factor = whole_batch.mean_factor(labels.shape[0], like=log_probabilities, group=self.step_group)
        output = F.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
        uniform = -log_probabilities.sum() / self.num_labels * row_factor
        total = (1 - self.smoothing) * output + self.smoothing * uniform
        return LabelSmoothingTerms(total=total, output=output, uniform=uniform)
