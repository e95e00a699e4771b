"""Output layer and loss in one: the label-embedding head, in plain lines and in faster forms."""

from typing import Literal

import torch
from torch import Tensor

from labelembed.heads import closed_form, reference
from labelembed.heads.distances import distances
from labelembed.heads.terms import HeadSettings, HeadTerms, full_precision

__all__ = ["HeadSettings", "HeadTerms", "distances", "full_precision", "label_embedding_terms"]


def label_embedding_terms(
    first: Tensor,
    second: Tensor | None,
    embedded: Tensor,
    labels: Tensor,
    settings: HeadSettings,
    *,
    implementation: Literal["auto", "reference", "closed_form"] = "auto",
) -> HeadTerms:
    """Computes the terms of the Label Embedding Network (Sun et al. 2017, eq. 14) from logits.

    Args:
        first: z1 [n, C], what predicts.
        second: z2 [n, C], from detached hidden rows; None where the embedding is fixed (eq. 17), or where
            `settings.shared` has it learn from `first`: then `auxiliary` and `hinge` are 0.
        embedded: e [n, C], the rows of the label embedding of `labels`.
        labels: [n] int64 in 0..C-1; no row is ignored here.
        settings: Weights and constants.
        implementation: `reference`: plain lines. `closed_form`: one node with written gradients, once
            differentiable. `auto`: the closed form, or the plain lines where torch.compile fuses them
            anyway, or where the embedding is fixed.
    """
    fast = implementation == "closed_form" or (implementation == "auto" and not torch.compiler.is_compiling())
    if settings.shared:
        second = first.detach()
    if fast and second is not None:
        return closed_form.label_embedding_terms(first, second, embedded, labels, settings)
    return reference.label_embedding_terms(first, second, embedded, labels, settings)
