"""The label-embedding head in plain lines: the definition of correct."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.heads.terms import HeadSettings, HeadTerms, full_precision


def label_embedding_terms(
    first: Tensor, second: Tensor | None, embedded: Tensor, labels: Tensor, settings: HeadSettings
) -> HeadTerms:
    """Computes the terms of Sun et al. 2017, eq. 14, from logits; see `heads.label_embedding_terms`."""
    log_embedded = F.log_softmax(full_precision(embedded), dim=-1)
    log_first = F.log_softmax(full_precision(first), dim=-1)
    none = log_first.new_zeros(())
    n = labels.shape[0]
    row_factor = settings.row_factor(n, like=log_first)

    output = F.nll_loss(log_first, labels, reduction="sum") * row_factor  # eq. 7
    target = -(log_embedded.detach().exp() * log_first).sum() * row_factor  # eq. 13
    total = settings.output_weight * output + settings.target_weight * target
    uniform = none
    if settings.uniform_weight > 0:
        uniform = -log_first.mean(dim=-1).sum() * row_factor
        total = total + settings.uniform_weight * uniform
    if second is None and not settings.shared:  # eq. 17
        return HeadTerms(total, output, target, none, none, none, uniform)

    auxiliary = hinge = none
    second = full_precision(first if second is None else second)
    some = settings.sample(labels)
    if some is not None:  # what the terms below are of; their sums are those of all rows, on average over the offsets
        second, log_embedded, labels = second[some], log_embedded[some], labels[some]
    if not settings.shared:
        log_true = F.log_softmax(second, dim=-1).gather(1, labels[:, None]).squeeze(1)
        auxiliary = -log_true.sum() * row_factor / settings.auxiliary_fraction  # eq. 8
        excess = F.relu(log_true.exp() - settings.confidence_limit)  # eq. 12
        if settings.hinge_norm == 2:
            excess = excess.square()
        hinge = excess.sum() * settings.hinge_factor(row_factor) / settings.auxiliary_fraction

    right = second.detach().argmax(dim=-1) == labels
    softened = F.softmax(second.detach() / settings.temperature, dim=-1)  # eq. 10
    by_row = -(softened * log_embedded).sum(dim=-1)  # eq. 11
    embedding, _ = settings.mean_over_right(torch.where(right, by_row, 0).sum(), right.sum(), rows=n)
    total = total + auxiliary + hinge + embedding
    return HeadTerms(total, output, target, auxiliary, hinge, embedding, uniform)
