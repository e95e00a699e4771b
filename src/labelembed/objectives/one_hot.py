"""The baseline: cross entropy with one right label."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses import IMPLEMENTATIONS, Implementation, smoothed_cross_entropy
from labelembed.objectives.base import CommonArguments, Objective


class OneHotTerms(NamedTuple):
    """Terms of `OneHot`: scalars."""

    total: Tensor
    output: Tensor


class OneHot(Objective):
    """Cross entropy of the output with the one-hot label (Sun et al. 2017, eq. 4).

    ``output = CE(onehot(y), z)``, a mean over the examples that count; ``total = output``.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        impl: `reference`: plain lines; `chunked`: never the logits of all examples at once; `auto`: chunks from 1,000
            labels on.
        common: What every objective takes, see `Objective`.

    Example:
        >>> import torch
        >>> objective = OneHot(8, 3)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, -100]))
        >>> bool(terms.total == terms.output)
        True
    """

    def __init__(
        self, hidden_size: int, num_labels: int, *, impl: Implementation = "auto", **common: Unpack[CommonArguments]
    ) -> None:
        errors = ArgumentErrors()
        errors.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.impl = impl

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> OneHotTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        output = smoothed_cross_entropy(
            self.output, examples.hidden, examples.labels, examples.scales, smoothing=None, impl=self.impl
        ).total
        return OneHotTerms(total=output, output=output)
