"""Static labels (Chen et al. 2021) as loops."""

from __future__ import annotations

import math

from .cross_entropy import naive_mean


def naive_huber(difference, delta):
    return difference**2 / 2 if abs(difference) <= delta else delta * (abs(difference) - delta / 2)


def naive_length(vector):
    return math.sqrt(max(sum(value**2 for value in vector), 1e-12))


def naive_cosine(first, second):
    return sum(a * b for a, b in zip(first, second, strict=True)) / (naive_length(first) * naive_length(second))


def naive_static_distance(output, vector, *, loss, delta):
    """Returns the distance of one row's output to one label's vector."""
    if loss == "cosine":
        return 1 - naive_cosine(output, vector)
    differences = [a - b for a, b in zip(output, vector, strict=True)]
    if loss == "huber":
        return sum(naive_huber(value, delta) for value in differences) / len(differences)
    return sum(value**2 for value in differences) / len(differences)


def naive_static_labels_terms(outputs, labels, vectors, *, loss, delta, ignore_index=-100):
    """Returns output and total, the mean distance to the right label's vector."""
    found = [
        naive_static_distance(row, vectors[label], loss=loss, delta=delta)
        for row, label in zip(outputs, labels, strict=True)
        if label != ignore_index
    ]
    return {"output": naive_mean(found), "total": naive_mean(found)}


def naive_static_logits(outputs, vectors, *, loss):
    """Returns [N][C]: the cosine, or minus the Euclidean distance, to every label's vector."""
    if loss == "cosine":
        return [[naive_cosine(row, vector) for vector in vectors] for row in outputs]
    return [[-math.dist(row, vector) for vector in vectors] for row in outputs]
