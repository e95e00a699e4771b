"""Luong et al. 2015: global attention with the "general" score, one position at a time."""

from __future__ import annotations

import math

from .cross_entropy import naive_softmax


def naive_linear(matrix, vector):
    return [sum(weight * value for weight, value in zip(row, vector, strict=True)) for row in matrix]


def naive_general_attention(query_matrix, output_matrix, contexts, written):
    """Returns tanh(W_o [c; h]) and the weights for contexts [S][H], which are all real, and h = written [H]."""
    query = naive_linear(query_matrix, written)
    weights = naive_softmax(naive_linear(contexts, query))
    read = [sum(w * context[h] for w, context in zip(weights, contexts, strict=True)) for h in range(len(written))]
    return [math.tanh(value) for value in naive_linear(output_matrix, [*read, *written])], weights
