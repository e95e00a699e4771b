"""Output layer and loss in one: which form runs, and cross entropy for people with an output layer of their own."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults
from labelembed.losses import chunked
from labelembed.losses.reference import cross_entropy, log_softmax, uniform_cross_entropy

Implementation = Literal["auto", "reference", "chunked"]
IMPLEMENTATIONS: tuple[Implementation, ...] = ("auto", "reference", "chunked")
# From so many labels on `auto` takes chunks. Measured on a CPU, full E, H = 256, one thread: from 500 to 4,000 labels
# they take 0.9 of the plain lines' time for 1,024 examples, and 1.1 to 1.4 for 64; memory decides.
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


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    impl: Implementation = "auto",
    chunk: int | None = None,
) -> Tensor:
    """Computes the mean cross entropy of ``hidden weight^T + bias`` with labels, without all logits at once.

    The same as ``F.cross_entropy(F.linear(hidden, weight, bias), labels, label_smoothing=...)``, but 0 where no
    example counts.

    Args:
        hidden: [n, H].
        weight: [C, H].
        bias: [C] or None.
        labels: [n] int64 in 0..C-1 or `ignore_index`.
        label_smoothing: Weight of the uniform component, in [0, 1].
        ignore_index: Examples with this label do not count.
        impl: `reference`: plain lines. `chunked`: some examples' logits at a time, gradients made in the forward pass;
            can be differentiated once. `auto`: chunks from 1,000 labels on.
        chunk: How many examples at a time; fewer take less memory and more time. None: what is fastest.

    Raises:
        ValueError: An argument is out of its range, or shapes do not fit.

    Example:
        >>> hidden, weight = torch.randn(8, 4), torch.randn(5000, 4, requires_grad=True)
        >>> linear_cross_entropy(hidden, weight, None, torch.arange(8), label_smoothing=0.1).backward()
    """
    faults = ArgumentFaults()
    faults.choice("impl", impl, IMPLEMENTATIONS)
    faults.require(chunk is None or chunk >= 1, "chunk", chunk, "must be >= 1, or None")
    faults.require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "must be in [0, 1]")
    fits = hidden.ndim == weight.ndim == 2 and weight.shape[1] == hidden.shape[1]
    shape = list(hidden.shape)
    faults.require(fits, "weight", list(weight.shape), f"must be [C, H] for hidden states {shape} [n, H]")
    same = labels.shape == hidden.shape[:1]
    faults.require(same, "labels", list(labels.shape), f"must be [n] for hidden states {shape} [n, H]")
    fits = bias is None or bias.shape == weight.shape[:1]
    faults.require(fits, "bias", None if bias is None else list(bias.shape), f"must be [C] for {list(weight.shape)}")
    faults.raise_if_any()
    counts = labels != ignore_index
    scales = counts / counts.sum().clamp_min(1)
    hidden, labels = hidden.masked_fill(~counts[:, None], 0), labels.masked_fill(~counts, 0)
    if takes_chunks(impl, weight.shape[0]):
        settings = chunked.Settings(output_weight=1 - label_smoothing, uniform_weight=label_smoothing)
        how = (scales, scales, (weight, bias), None, None, settings)
        return chunked.label_embedding_terms(hidden, labels, *how, chunk=chunk).total
    log_p = log_softmax(F.linear(hidden, weight, bias))
    losses = (1 - label_smoothing) * cross_entropy(log_p, labels) + label_smoothing * uniform_cross_entropy(log_p)
    return (losses * scales.to(log_p.dtype)).sum()
