"""Confidence penalty: outputs that are sure of themselves cost something."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.losses import full_precision
from labelembed.objectives.objective import Objective
from labelembed.objectives.search_space import Range, SearchSpace


class ConfidencePenaltyTerms(NamedTuple):
    """Terms of `ConfidencePenalty`: scalars, `entropy` not weighted and with its own sign."""

    total: Tensor
    output: Tensor
    entropy: Tensor


class ConfidencePenalty(Objective):
    """Cross entropy minus a share of the output's entropy, in nats (Pereyra et al. 2017, "MaxEntReg").

    ``total = output - beta entropy`` with ``output = CE(onehot(y), z)`` and
    ``entropy = -sum_c p_c log p_c``, ``p = softmax(z)``; both are means over the rows that count.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        penalty_weight: beta, how much a nat of entropy takes off the loss; >= 0.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.

    Example:
        >>> import torch
        >>> objective = ConfidencePenalty(8, 3, penalty_weight=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, terms.output - 0.2 * terms.entropy)
        True
    """

    search_space: ClassVar[SearchSpace] = {"penalty_weight": Range(0.01, 2.0, log=True)}

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        penalty_weight: float = 0.1,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
    ) -> None:
        faults = ArgumentFaults()
        faults.require(penalty_weight >= 0, "penalty_weight", penalty_weight, "must be >= 0")
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.penalty_weight = penalty_weight

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> ConfidencePenaltyTerms:
        """Computes the terms; see `Objective.forward`."""
        hidden, labels = self.counted(hidden, labels)
        log_probabilities = F.log_softmax(full_precision(self.output(hidden)), dim=-1)
        row_factor = whole_batch.mean_factor(labels.shape[0], like=log_probabilities, group=self.step_group)
        output = F.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
        entropy = -(log_probabilities.exp() * log_probabilities).sum() * row_factor
        total = output - self.penalty_weight * entropy
        return ConfidencePenaltyTerms(total=total, output=output, entropy=entropy)
