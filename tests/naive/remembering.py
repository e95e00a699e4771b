"""Objectives that remember what the network said: online label smoothing and retrospection, one row at a time."""

from __future__ import annotations

import math

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax
from .label_embedding import naive_argmax


class NaiveOnlineLabelSmoothing:
    """Zhang et al. 2021, and the form with a moving average that takes rows in one after the other."""

    def __init__(self, num_labels, *, similarity_weight, uniform_weight, momentum=0.99):
        self.count = num_labels
        self.a, self.b, self.momentum = similarity_weight, uniform_weight, momentum
        self.table = [[1 / num_labels] * num_labels for _ in range(num_labels)]
        self.gathered = [[] for _ in range(num_labels)]

    def terms(self, logits, labels, *, ignore_index=-100):
        counted = [(row, label) for row, label in zip(logits, labels, strict=True) if label != ignore_index]
        output = naive_mean([naive_cross_entropy(naive_onehot(label, self.count), row) for row, label in counted])
        similarity = naive_mean([naive_cross_entropy(self.table[label], row) for row, label in counted])
        uniform = naive_mean([naive_cross_entropy([1 / self.count] * self.count, row) for row, label in counted])
        total = (1 - self.a - self.b) * output + self.a * similarity + self.b * uniform
        return {"total": total, "output": output, "similarity": similarity, "uniform": uniform}

    def right_rows(self, logits, labels, ignore_index=-100):
        for row, label in zip(logits, labels, strict=True):
            if label != ignore_index and naive_argmax(row) == label:
                yield naive_softmax(row), label

    def gather(self, logits, labels):
        """An epoch's right rows, for `next_epoch`."""
        for said, label in self.right_rows(logits, labels):
            self.gathered[label].append(said)

    def next_epoch(self):
        for label, rows in enumerate(self.gathered):
            if rows:
                self.table[label] = [sum(row[c] for row in rows) / len(rows) for c in range(self.count)]
        self.gathered = [[] for _ in range(self.count)]

    def follow(self, logits, labels):
        """S[c] = momentum ** n S[c] + (1 - momentum ** n) mean of the batch's n right rows of class c."""
        rows_of = [[] for _ in range(self.count)]
        for said, label in self.right_rows(logits, labels):
            rows_of[label].append(said)
        for label, rows in enumerate(rows_of):
            keep = self.momentum ** len(rows)
            for c in range(self.count):
                mean = sum(row[c] for row in rows) / len(rows) if rows else 0.0
                self.table[label][c] = keep * self.table[label][c] + (1 - keep) * mean


def naive_entropy(row):
    return -sum(share * math.log(share) for share in row if share > 0)


def naive_retrospection_terms(logits, labels, stored, *, temperature, weight, ignore_index=-100):
    """Deng, Zhang 2021: (1 - beta) CE + beta tau^2 KL(stored || softmax(z / tau)); `stored` one distribution a row.

    At temperature 1 it is the port in Yu, Verma 2022: (1 - beta) CE + beta KL(stored || softmax(z)), and but for the
    constant entropy of `stored` Kim et al. 2021: CE((1 - beta) onehot + beta stored, z).
    """
    output, retrospection, total = [], [], []
    for row, label, soft in zip(logits, labels, stored, strict=True):
        if label == ignore_index:
            continue
        softened = [value / temperature for value in row]
        output.append(naive_cross_entropy(naive_onehot(label, len(row)), row))
        retrospection.append(naive_cross_entropy(soft, softened) - naive_entropy(soft))
        total.append((1 - weight) * output[-1] + weight * temperature**2 * retrospection[-1])
    return {"output": naive_mean(output), "retrospection": naive_mean(retrospection), "total": naive_mean(total)}
