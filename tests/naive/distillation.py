"""Distillation (Hinton, Vinyals, Dean 2015) as loops."""

from __future__ import annotations

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax
from .remembering import naive_sparse
from .teacher_free import naive_kullback_leibler


def naive_distillation_terms(
    logits, labels, rows, teacher_logits, *, temperature, teacher_weight, top_k=None, ignore_index=-100
):
    """Returns output, teacher and total = (1 - w) output + w tau^2 teacher.

    The teacher's table is read by `rows`, and kept by its `top_k` largest softened entries where that is given.
    """
    output, teacher, total = [], [], []
    for row, label, place in zip(logits, labels, rows, strict=True):
        if label == ignore_index:
            continue
        target = naive_softmax(teacher_logits[place], temperature)
        target = target if top_k is None else naive_sparse(target, top_k)
        output.append(naive_cross_entropy(naive_onehot(label, len(row)), row))
        teacher.append(naive_kullback_leibler(target, [value / temperature for value in row]))
        total.append((1 - teacher_weight) * output[-1] + teacher_weight * temperature**2 * teacher[-1])
    return {"output": naive_mean(output), "teacher": naive_mean(teacher), "total": naive_mean(total)}


def naive_token_distillation_terms(logits, labels, rows, teacher_logits, **settings):
    """The same over sentences [B][T]."""
    flat = ([token for sentence in each for token in sentence] for each in (logits, labels, rows))
    return naive_distillation_terms(*flat, teacher_logits, **settings)
