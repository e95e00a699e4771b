"""Distillation (Hinton, Vinyals, Dean 2015) as loops."""

from __future__ import annotations

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax
from .teacher_free import naive_kullback_leibler


def naive_distillation_terms(
    logits, labels, rows, teacher_logits, *, temperature, teacher_weight, uniform_weight=0.0,
    ignore_index=-100,
):  # fmt: skip
    """Returns output, teacher, uniform and total = (1 - w - u) output + w tau^2 teacher + u uniform."""
    output, teacher, uniform, total = [], [], [], []
    for row, label, place in zip(logits, labels, rows, strict=True):
        if label == ignore_index:
            continue
        target = naive_softmax(teacher_logits[place], temperature)
        output.append(naive_cross_entropy(naive_onehot(label, len(row)), row))
        teacher.append(naive_kullback_leibler(target, [value / temperature for value in row]))
        uniform.append(naive_cross_entropy([1 / len(row)] * len(row), row))
        total.append(
            (1 - teacher_weight - uniform_weight) * output[-1]
            + teacher_weight * temperature**2 * teacher[-1]
            + uniform_weight * uniform[-1]
        )
    found = {"output": output, "teacher": teacher, "uniform": uniform, "total": total}
    return {name: naive_mean(values) for name, values in found.items()}
