"""The label-embedding head from hidden rows on, one row at a time: what the chunked head must equal."""

from __future__ import annotations

from .cross_entropy import naive_cross_entropy, naive_linear, naive_mean, naive_onehot, naive_softmax
from .label_embedding import naive_argmax, naive_label_embedding_terms, naive_label_embedding_total


def naive_head_terms(hidden, layers, embedding_of, labels, *, weights, **constants):
    """Returns the terms of eq. 14, and their weighted total.

    `layers`: the weight and bias of o1 and of o2, as lists; `weights`: those of output, target and uniform.
    """
    first, second = ([naive_linear(weight, bias, row) for row in hidden] for weight, bias in layers)
    terms = naive_label_embedding_terms(first, second, embedding_of, labels, **constants)
    return terms | {"total": naive_label_embedding_total(terms, **weights)}


def naive_trained_total(hidden, layers, embedding_of, held, labels, *, weights, temperature, **constants):
    """Returns the total whose derivatives are the gradients: what the paper detaches is taken from `held`.

    `held`: hidden rows, layers and embedding_of as they were before one number was moved.
    """
    held_hidden, held_layers, held_embedding_of = held
    first = [naive_linear(*layers[0], row) for row in hidden]
    second = [naive_linear(*layers[1], row) for row in held_hidden]
    held_second = [naive_linear(*held_layers[1], row) for row in held_hidden]
    constants = {"temperature": temperature} | constants
    from_first = naive_label_embedding_terms(first, second, held_embedding_of, labels, **constants)
    embedding = []
    for z2, label in zip(held_second, labels, strict=True):
        if naive_argmax(z2) == label:
            embedding.append(naive_cross_entropy(naive_softmax(z2, temperature), embedding_of(label)))
    terms = from_first | {"embedding": naive_mean(embedding)}
    return naive_label_embedding_total(terms, **weights)


def naive_smoothed_total(hidden, layer, labels, *, smoothing):
    """Returns the mean cross entropy against (1 - s) onehot + s / C."""
    losses = []
    for row, label in zip(hidden, labels, strict=True):
        logits = naive_linear(*layer, row)
        count = len(logits)
        target = [(1 - smoothing) * share + smoothing / count for share in naive_onehot(label, count)]
        losses.append(naive_cross_entropy(target, logits))
    return naive_mean(losses)


def naive_soft_total(hidden, layer, targets, *, smoothing):
    """Returns the mean cross entropy against (1 - s) target + s / C."""
    losses = []
    for row, given in zip(hidden, targets, strict=True):
        logits = naive_linear(*layer, row)
        target = [(1 - smoothing) * share + smoothing / len(logits) for share in given]
        losses.append(naive_cross_entropy(target, logits))
    return naive_mean(losses)
