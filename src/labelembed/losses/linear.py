"""Output layer and loss in one: which form runs, and cross entropy with label smoothing in either."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from labelembed.losses import chunked
from labelembed.losses.reference import (
    LabelEmbeddingTerms,
    cross_entropy,
    log_softmax,
    uniform_cross_entropy,
    weighted_sum,
)

Implementation = Literal["auto", "reference", "chunked"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("auto", "reference", "chunked")
# `auto` takes chunks from this number of labels on, where memory decides; time differs little (docs/results.md).
CHUNKED_LABELS = 1_000


def takes_chunks(impl: Implementation, *layers: nn.Linear) -> bool:
    """Tells whether the loss over some output layers is computed in chunks.

    `auto` goes by the number of labels, so that all processes of a step choose alike. Chunks do not call the layer:
    compiled, and where one has hooks or its own `forward`, `auto` takes the plain lines; `chunked` raises ValueError.
    """
    special = [type(layer).__name__ for layer in layers if not _is_plain(layer)]
    if impl == "chunked" and special:
        raise ValueError(
            f"`impl` 'chunked' reads the weights of an nn.Linear without hooks, got {', '.join(special)} with its own "
            "`forward` or with hooks; use impl='auto', which calls it"
        )
    if impl != "auto":
        return impl == "chunked"
    return not special and layers[0].out_features >= CHUNKED_LABELS and not torch.compiler.is_compiling()


def _is_plain(layer: nn.Module) -> bool:
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return type(layer).forward is nn.Linear.forward and not any(hooks)


def smoothed_cross_entropy(
    layer: nn.Linear, hidden: Tensor, labels: Tensor, scales: Tensor, *, smoothing: float, impl: Implementation
) -> LabelEmbeddingTerms:
    """Computes ``(1 - s) CE(onehot(y), z) + s CE(1/C, z)`` of ``z = layer(h)``: `total`, `output` and `uniform`.

    `scales` [n] are the factors of the examples' losses; with s = 0 `uniform` is not computed. In chunks `total` alone
    can be differentiated, once.
    """
    if takes_chunks(impl, layer):
        settings = chunked.Settings(output_weight=1 - smoothing, uniform_weight=smoothing)
        return chunked.label_embedding_terms(hidden, labels, scales, (layer.weight, layer.bias), None, None, settings)
    log_p = log_softmax(layer(hidden))
    uniform = zero = log_p.new_zeros(())
    output = total = cross_entropy(log_p, labels, scales)
    if smoothing > 0:
        uniform = uniform_cross_entropy(log_p, scales)
        total = weighted_sum((1 - smoothing, smoothing), (output, uniform))
    return LabelEmbeddingTerms(total, output, zero, zero, zero, zero, uniform)
