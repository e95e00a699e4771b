"""Label Embedding Network, Sun et al. 2017, eq. 8 to 17, one row at a time."""

from __future__ import annotations

from .cross_entropy import naive_cross_entropy, naive_mean, naive_onehot, naive_softmax


def naive_argmax(row):
    best = 0
    for index, value in enumerate(row):
        if value > row[best]:
            best = index
    return best


def naive_compressed_row(a, b, label):
    """eq. 16: e = relu(A_y B)."""
    width = len(b[0])
    return [max(0.0, sum(a[label][k] * b[k][column] for k in range(len(b)))) for column in range(width)]


def naive_label_embedding_terms(
    first,
    second,
    embedding_of,
    labels,
    *,
    temperature=2.0,
    confidence_limit=0.9,
    hinge_reduction="mean",
    ignore_index=-100,
):
    """Terms of eq. 14 from z1 [N, C], z2 [N, C] and a function label -> e [C]; not weighted.

    Without z2 those of eq. 17, where E is fixed and nothing but z1 is trained.
    """
    output, target, uniform, auxiliary, hinge, embedding = [], [], [], [], [], []
    for place, (z1, label) in enumerate(zip(first, labels, strict=True)):
        if label == ignore_index:
            continue
        count = len(z1)
        e = embedding_of(label)
        onehot = naive_onehot(label, count)
        output.append(naive_cross_entropy(onehot, z1))
        target.append(naive_cross_entropy(naive_softmax(e), z1))  # eq. 13
        uniform.append(naive_cross_entropy([1 / count] * count, z1))
        if second is None:
            continue
        z2 = second[place]
        auxiliary.append(naive_cross_entropy(onehot, z2))  # eq. 8
        hinge.append(max(0.0, naive_softmax(z2)[label] - confidence_limit))  # eq. 12
        if naive_argmax(z2) == label:
            embedding.append(naive_cross_entropy(naive_softmax(z2, temperature), e))  # eq. 11
    return {
        "output": naive_mean(output),
        "target": naive_mean(target),
        "uniform": naive_mean(uniform),
        "auxiliary": naive_mean(auxiliary),
        "hinge": sum(hinge) if hinge_reduction == "sum" else naive_mean(hinge),
        "embedding": naive_mean(embedding),
    }


def naive_label_embedding_total(terms, *, output_weight=1.0, target_weight=1.0, uniform_weight=0.0):
    """eq. 14, with the uniform component that the paper has not."""
    weighted = output_weight * terms["output"] + target_weight * terms["target"] + uniform_weight * terms["uniform"]
    return weighted + terms["auxiliary"] + terms["hinge"] + terms["embedding"]
