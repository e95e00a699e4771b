"""Static labels (Chen et al. 2021) as loops."""

from __future__ import annotations

import math

from .cross_entropy import naive_mean


def naive_huber(difference, delta):
    return difference**2 / 2 if abs(difference) <= delta else delta * (abs(difference) - delta / 2)


def naive_static_labels_terms(outputs, labels, vectors, *, delta, ignore_index=-100):
    """Returns output and total, the mean Huber distance to the right label's vector."""
    distances = [
        sum(naive_huber(a - b, delta) for a, b in zip(row, vectors[label], strict=True)) / len(row)
        for row, label in zip(outputs, labels, strict=True)
        if label != ignore_index
    ]
    return {"output": naive_mean(distances), "total": naive_mean(distances)}


def naive_static_logits(outputs, vectors):
    """Returns [N][C]: minus the Euclidean distance to every label's vector."""
    return [[-math.dist(row, vector) for vector in vectors] for row in outputs]
