"""Confidence penalty: confident outputs cost something."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses.reference import cross_entropy, log_softmax
from labelembed.objectives.base import CommonArguments, Objective


class ConfidencePenaltyTerms(NamedTuple):
    """Terms of `ConfidencePenalty`: scalars, `entropy` not weighted and with its own sign."""

    total: Tensor
    output: Tensor
    entropy: Tensor


class ConfidencePenalty(Objective):
    """Cross entropy minus a part of the output's entropy, in nats (Pereyra et al. 2017, "MaxEntReg").

    ``total = output - beta entropy`` with ``output = CE(onehot(y), z)`` and
    ``entropy = -sum_c p_c log p_c``, ``p = softmax(z)``; both are means over the examples that count.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        penalty_weight: beta, how much a nat of entropy takes off the loss; >= 0.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.

    Example:
        >>> import torch
        >>> objective = ConfidencePenalty(8, 3, penalty_weight=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, terms.output - 0.2 * terms.entropy)
        True
    """

    def __init__(
        self, hidden_size: int, num_labels: int, *, penalty_weight: float = 0.1, **common: Unpack[CommonArguments]
    ) -> None:
        errors = ArgumentErrors()
        errors.require(penalty_weight >= 0, "penalty_weight", penalty_weight, "must be >= 0")
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.penalty_weight = penalty_weight

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> ConfidencePenaltyTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        log_p = log_softmax(self.output(examples.hidden))
        output = examples.mean(cross_entropy(log_p, examples.labels))
        entropy = examples.mean(-(log_p.exp() * log_p).sum(dim=-1))
        total = output - self.penalty_weight * entropy
        return ConfidencePenaltyTerms(total=total, output=output, entropy=entropy)
