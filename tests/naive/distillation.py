"""Distillation (Hinton, Vinyals, Dean 2015) as loops."""

from __future__ import annotations

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax
from .remembering import naive_sparse
from .teacher_free import naive_kullback_leibler


def naive_distillation_terms(
    logits, labels, rows, teacher_logits, *, temperature, teacher_weight, uniform_weight=0.0, top_k=None,
    ignore_index=-100,
):  # fmt: skip
    """Returns output, teacher, uniform and total = (1 - w - u) output + w tau^2 teacher + u uniform.

    The teacher's table is read by `rows`, and kept by its `top_k` largest softened entries where that is given.
    """
    output, teacher, uniform, total = [], [], [], []
    for row, label, place in zip(logits, labels, rows, strict=True):
        if label == ignore_index:
            continue
        target = naive_softmax(teacher_logits[place], temperature)
        target = target if top_k is None else naive_sparse(target, top_k)
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


def naive_token_distillation_terms(logits, labels, rows, teacher_logits, **settings):
    """The same over sentences [B][T]."""
    flat = ([token for sentence in each for token in sentence] for each in (logits, labels, rows))
    return naive_distillation_terms(*flat, teacher_logits, **settings)
