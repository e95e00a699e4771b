"""Softmax and cross entropy (Sun et al. 2017, eq. 3 and 4), one row at a time."""

from __future__ import annotations

import math


def naive_softmax(row, temperature=1.0):
    highest = max(row)
    powers = [math.exp((value - highest) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive_cross_entropy(target, row):
    highest = max(row)
    normaliser = highest + math.log(sum(math.exp(value - highest) for value in row))
    return -sum(share * (value - normaliser) for share, value in zip(target, row, strict=True))


def naive_onehot(label, num_labels):
    return [1.0 if index == label else 0.0 for index in range(num_labels)]


def naive_linear(weight, bias, row):
    return [
        sum(w * x for w, x in zip(line, row, strict=True)) + shift for line, shift in zip(weight, bias, strict=True)
    ]


def naive_mean(values):
    return sum(values) / max(len(values), 1)


def naive_label_smoothing_terms(logits, labels, *, smoothing, ignore_index=-100):
    """Returns output, uniform and total: CE against (1 - s) onehot + s / C."""
    output, uniform, total = [], [], []
    for row, label in zip(logits, labels, strict=True):
        if label == ignore_index:
            continue
        count = len(row)
        onehot = naive_onehot(label, count)
        output.append(naive_cross_entropy(onehot, row))
        uniform.append(naive_cross_entropy([1 / count] * count, row))
        mixed = [(1 - smoothing) * share + smoothing / count for share in onehot]
        total.append(naive_cross_entropy(mixed, row))
    return {"output": naive_mean(output), "uniform": naive_mean(uniform), "total": naive_mean(total)}
