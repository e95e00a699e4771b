"""Label smoothing, the control that every claim is compared with."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses import IMPLEMENTATIONS, Implementation, smoothed_cross_entropy
from labelembed.objectives.base import CommonArguments, Objective


class LabelSmoothingTerms(NamedTuple):
    """Terms of `LabelSmoothing`: scalars, `output` and `uniform` not weighted."""

    total: Tensor
    output: Tensor
    uniform: Tensor


class LabelSmoothing(Objective):
    """Cross entropy with the one-hot label mixed with a uniform component (Szegedy et al. 2016).

    ``total = (1 - s) output + s uniform`` with ``output = CE(onehot(y), z)``, ``uniform = CE(1/C, z)``: the same as
    ``F.cross_entropy(..., label_smoothing=s)``. With a class `weight` an example's uniform component has the weight of
    its own class; torch gives each of its C summands the weight of that summand's class.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        smoothing: s, weight of the uniform component, in [0, 1].
        impl: `reference`: plain lines; `chunked`: never the logits of all examples at once; `auto`: chunks from 1,000
            labels on.
        common: What every objective takes, see `Objective`.

    Example:
        >>> import torch
        >>> objective = LabelSmoothing(8, 3, smoothing=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, 0.8 * terms.output + 0.2 * terms.uniform)
        True
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        smoothing: float = 0.1,
        impl: Implementation = "auto",
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.require(0 <= smoothing <= 1, "smoothing", smoothing, "must be in [0, 1]")
        errors.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.smoothing = smoothing
        self.impl = impl

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> LabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        terms = smoothed_cross_entropy(
            self.output, examples.hidden, examples.labels, examples.scales, smoothing=self.smoothing, impl=self.impl
        )
        return LabelSmoothingTerms(total=terms.total, output=terms.output, uniform=terms.uniform)
