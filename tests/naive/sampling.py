"""A systematic sample over rows sorted by label, and the terms of the label-embedding head on it, row by row."""

from __future__ import annotations

from fractions import Fraction
from math import floor

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax
from .label_embedding import naive_argmax


def naive_sampled_rows(labels, fraction, offset):
    """Returns the rows at whose place in the sorted order the running sum of shares, begun at `offset`, fills up."""
    fraction, offset = Fraction(str(fraction)), Fraction(str(offset))
    order = sorted(range(len(labels)), key=lambda row: (labels[row], row))
    return [
        row
        for place, row in enumerate(order)
        if floor((place + 1) * fraction + offset) > floor(place * fraction + offset)
    ]


def naive_sampled_terms(second, embedding_of, labels, rows, *, fraction, temperature, confidence_limit, hinge_norm=1):
    """Returns auxiliary, hinge (both over the share of rows: on average those of all) and embedding of some rows."""
    auxiliary = hinge = 0.0
    embedding = []
    for row in rows:
        z2, label = second[row], labels[row]
        auxiliary += naive_cross_entropy(naive_onehot(label, len(z2)), z2)
        hinge += max(0.0, naive_softmax(z2)[label] - confidence_limit) ** hinge_norm
        if naive_argmax(z2) == label:
            embedding.append(naive_cross_entropy(naive_softmax(z2, temperature), embedding_of(label)))
    every = fraction * len(labels)
    return {"auxiliary": auxiliary / every, "hinge": hinge / every, "embedding": naive_mean(embedding)}
