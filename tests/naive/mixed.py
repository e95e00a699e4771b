"""Terms of rows that belong to two labels (mixup, Zhang et al. 2018): cross entropies with the mixed target."""

from __future__ import annotations

import math

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot


def naive_mix(first, second, share):
    return [share * one + (1 - share) * other for one, other in zip(first, second, strict=True)]


def naive_mixed_output(logits, labels, others, share):
    """The mean over the rows of CE(share onehot(label) + (1 - share) onehot(other), z)."""
    return naive_mixed_cross_entropy(logits, labels, others, share, lambda label, count: naive_onehot(label, count))


def naive_mixed_cross_entropy(logits, labels, others, share, target_of):
    """The same with a target of its own for each label: `target_of(label, C)`."""
    found = []
    for row, label, other in zip(logits, labels, others, strict=True):
        target = naive_mix(target_of(label, len(row)), target_of(other, len(row)), share)
        found.append(naive_cross_entropy(target, row))
    return naive_mean(found)


def naive_entropy(target):
    return -sum(value * math.log(value) for value in target if value > 0)


def naive_uniform(logits):
    return naive_mean([naive_cross_entropy([1 / len(row)] * len(row), row) for row in logits])
