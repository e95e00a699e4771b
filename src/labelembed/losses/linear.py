"""Output layer and loss in one: which form runs, and cross entropy with label smoothing in either."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from labelembed.losses import chunked
from labelembed.losses.reference import LabelEmbeddingTerms, cross_entropy, log_softmax, uniform_cross_entropy

Implementation = Literal["auto", "reference", "chunked"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("auto", "reference", "chunked")
# From so many labels on `auto` takes chunks. Measured on a CPU, full E, H = 256, one thread: from 500 to 4,000 labels
# they take 0.9 of the plain lines' time for 1,024 examples, and 1.1 to 1.4 for 64; memory decides.
# `F.linear_cross_entropy` of torch is not taken: it was slower, with up to four times the memory (docs/results.md).
CHUNKED_LABELS = 1_000


def takes_chunks(impl: Implementation, num_labels: int, *layers: nn.Module) -> bool:
    """Tells whether the loss over some output layers is computed in chunks.

    `auto` goes by the number of labels only, so that all processes of a step choose alike. Under torch.compile, and
    over layers with hooks or a `forward` of their own, it takes the plain lines: chunks read the weights and do not
    call the layer.

    Raises:
        ValueError: `chunked` is asked for over a layer that does more than `nn.Linear`.
    """
    if impl == "reference":
        return False
    plain = all(_is_plain(layer) for layer in layers)
    if impl == "chunked" and not plain:
        found = ", ".join(type(layer).__name__ for layer in layers if not _is_plain(layer))
        raise ValueError(
            f"`impl` 'chunked' reads the weights of an nn.Linear without hooks, got {found} with its own `forward` or "
            "with hooks; use impl='auto', which calls it"
        )
    if impl == "auto":
        return plain and num_labels >= CHUNKED_LABELS and not torch.compiler.is_compiling()
    return True


def _is_plain(layer: nn.Module) -> bool:
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return type(layer).forward is nn.Linear.forward and not any(hooks)


def smoothed_cross_entropy(
    layer: nn.Module, hidden: Tensor, labels: Tensor, scales: Tensor, *, smoothing: float | None, impl: Implementation
) -> LabelEmbeddingTerms:
    """Computes ``(1 - s) CE(onehot(y), z) + s CE(1/C, z)`` of ``z = layer(h)``: `total`, `output` and `uniform`.

    Args:
        layer: The output layer [H -> C].
        hidden: [n, H].
        labels: [n] in 0..C-1.
        scales: [n], what each example's loss is multiplied with; 0 for an ignored example.
        smoothing: s; None: 0, and `uniform` is not computed.
        impl: See `takes_chunks`. In chunks `total` alone can be differentiated, once.
    """
    if isinstance(layer, nn.Linear) and takes_chunks(impl, layer.out_features, layer):
        settings = chunked.Settings(output_weight=1 - (smoothing or 0), uniform_weight=smoothing)
        first = layer.weight, layer.bias
        return chunked.label_embedding_terms(hidden, labels, scales, first, None, None, settings)
    log_p = log_softmax(layer(hidden))
    nothing = log_p.new_zeros(())
    output = total = (cross_entropy(log_p, labels) * scales).sum()
    uniform = nothing
    if smoothing is not None:
        uniform = (uniform_cross_entropy(log_p) * scales).sum()
        total = (1 - smoothing) * output + smoothing * uniform
    return LabelEmbeddingTerms(total, output, nothing, nothing, nothing, nothing, uniform)
