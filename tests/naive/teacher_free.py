"""Teacher-free distillation (Yuan et al. 2020, "Tf-KD reg") as loops."""

from __future__ import annotations

import math

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax


def naive_kullback_leibler(target, row):
    """Returns KL(target || softmax(row))."""
    return naive_cross_entropy(target, row) + sum(share * math.log(share) for share in target if share > 0)


def naive_virtual_teacher(label, count, *, true_probability, temperature):
    """Returns the softened teacher of one row, [C]."""
    if count == 1:
        return [1.0]
    given = [true_probability if index == label else (1 - true_probability) / (count - 1) for index in range(count)]
    return naive_softmax(given, temperature)


def naive_teacher_free_terms(logits, labels, *, true_probability, temperature, teacher_weight, ignore_index=-100):
    """Returns output, teacher and total = (1 - w) output + w teacher, row by row."""
    output, teacher, total = [], [], []
    for row, label in zip(logits, labels, strict=True):
        if label == ignore_index:
            continue
        target = naive_virtual_teacher(label, len(row), true_probability=true_probability, temperature=temperature)
        output.append(naive_cross_entropy(naive_onehot(label, len(row)), row))
        teacher.append(naive_kullback_leibler(target, row))
        total.append((1 - teacher_weight) * output[-1] + teacher_weight * teacher[-1])
    return {"output": naive_mean(output), "teacher": naive_mean(teacher), "total": naive_mean(total)}
