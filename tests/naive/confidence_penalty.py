"""Confidence penalty (Pereyra et al. 2017) as loops."""

from __future__ import annotations

import math

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax


def naive_confidence_penalty_terms(logits, labels, *, penalty_weight, ignore_index=-100):
    """Returns output, entropy and total = output - beta entropy, row by row."""
    output, entropy, total = [], [], []
    for row, label in zip(logits, labels, strict=True):
        if label == ignore_index:
            continue
        loss = naive_cross_entropy(naive_onehot(label, len(row)), row)
        spread = -sum(share * math.log(share) for share in naive_softmax(row) if share > 0)
        output.append(loss)
        entropy.append(spread)
        total.append(loss - penalty_weight * spread)
    return {"output": naive_mean(output), "entropy": naive_mean(entropy), "total": naive_mean(total)}
