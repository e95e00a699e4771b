"""Learning with Adaptive Labels, Yu, Verma 2022, eq. 1 to 3, one row and one pair at a time."""

from __future__ import annotations

import math

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot


def naive_centroids(z, labels, old, *, ignore_index=-100):
    """eq. 1: the mean of each class' rows; a class without rows keeps its old vector."""
    new = []
    for label, vector in enumerate(old):
        rows = [row for row, own in zip(z, labels, strict=True) if own == label and own != ignore_index]
        if not rows:
            new.append(list(vector))
            continue
        new.append([sum(row[d] for row in rows) / len(rows) for d in range(len(vector))])
    return new


def naive_distance(first, second):
    return math.sqrt(max(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)), 1e-12))


def naive_adaptive_labels_output(z, labels, centroids, *, ignore_index=-100):
    """eq. 2: cross entropy with the softmax of minus the distances."""
    losses = []
    for row, label in zip(z, labels, strict=True):
        if label != ignore_index:
            scores = [-naive_distance(row, centroid) for centroid in centroids]
            losses.append(naive_cross_entropy(naive_onehot(label, len(centroids)), scores))
    return naive_mean(losses)


def naive_repel(z, labels, *, ignore_index=-100):
    """eq. 3, as a mean over all pairs of rows that count."""
    counted = [(row, label) for row, label in zip(z, labels, strict=True) if label != ignore_index]
    total = 0.0
    for first, own in counted:
        for second, other in counted:
            if own != other:
                product = sum(a * b for a, b in zip(first, second, strict=True))
                lengths = math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second))
                total += product / lengths
    return total / max(len(counted), 1) ** 2
