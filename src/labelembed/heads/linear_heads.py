"""Output layer and loss in one call: what stands where a linear layer and a loss stood."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed import whole_batch
from labelembed.heads import chunked, chunked_linear, closed_form, reference
from labelembed.heads.chunked_linear import CrossEntropyTerms
from labelembed.heads.chunks import default_chunk_rows
from labelembed.heads.embedding_tables import embedding_rows
from labelembed.heads.head_arguments import Implementation, head_faults, require_tables, require_targets
from labelembed.heads.terms import HeadSettings, HeadTerms, require_auxiliary

# From so many labels on `auto` takes chunks. Measured on a CPU, H = 256, one thread: with 500 labels they take 1.4 of
# the closed form's time for 64 rows and 0.9 for 1,024; with 1,000 labels 1.1 and 0.7; with 2,000 labels 0.8 and 0.6.
CHUNKED_LABELS = 1_000
# What reads the weights of the layers and does not call them: one node from the hidden rows on.
NODES = ("chunked",)


def chosen(impl: Implementation, num_labels: int, device: torch.device) -> Implementation:
    """Returns what `auto` stands for with so many labels; any other implementation as it is.

    Of the number of labels only, so that all processes of a step choose alike. Under torch.compile it is the plain
    lines, which the compiler fuses.

    Raises:
        ValueError: Triton is asked for where it cannot run.
    """
    if impl != "auto":
        return impl
    if torch.compiler.is_compiling():
        return "reference"
    if num_labels < CHUNKED_LABELS:
        return "closed_form"
    return "chunked"


def chosen_for(impl: Implementation, num_labels: int, *layers: nn.Module) -> Implementation:
    """Returns what `auto` stands for over these output layers: chunks read the weights and do not call the layer.

    Raises:
        ValueError: Chunks or kernels are asked for over a layer that does more than `nn.Linear`, or has hooks; or
            kernels where they cannot run.
    """
    way = chosen(impl, num_labels, next(layers[0].parameters()).device)
    if way not in NODES or all(_is_plain(layer) for layer in layers):
        return way
    if impl == "auto":
        return "closed_form"
    found = ", ".join(type(layer).__name__ for layer in layers if not _is_plain(layer))
    raise ValueError(
        f"`impl` {way!r} reads the weights of an nn.Linear without hooks, got {found} with its own `forward` or with "
        "hooks; use impl='auto', which calls it"
    )


def _is_plain(layer: nn.Module) -> bool:
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return type(layer).forward is nn.Linear.forward and not any(hooks)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor | None,
    *,
    soft_targets: Tensor | None = None,
    label_smoothing: float = 0.0,
    impl: Implementation = "auto",
    chunk_rows: int | None = None,
    group: whole_batch.Group = None,
) -> CrossEntropyTerms:
    """Computes the cross entropy of ``hidden weight^T + bias`` with labels, a mean over the rows of the whole step.

    ``total = (1 - s) CE(onehot(y), z) + s CE(1/C, z)`` with s the smoothing, as ``F.cross_entropy`` of `F.linear`.

    Args:
        hidden: [n, H].
        weight: [C, H].
        bias: [C] or None.
        labels: [n] int64 in 0..C-1; no row is ignored here. None: with `soft_targets`.
        soft_targets: [n, C], how much of each label is right in each row, in the place of `labels`: probabilities, as
            `F.cross_entropy` takes them. A gradient to them is given by the plain lines alone, which `auto` takes then.
        label_smoothing: s, in [0, 1].
        impl: `reference`: plain lines. `chunked`: logits of some rows at a time, the gradients made in the
            forward pass: of `total` only, and differentiable once. `triton`: the same on a GPU, by kernels.
            `auto`: chunks for many labels. (`closed_form` is the label-embedding head's; here
            it is the plain lines.)
        chunk_rows: How many rows at a time; fewer take less memory and a little longer. None: what is fastest.
        group: The processes that share the step; None: all that are up; `whole_batch.ALONE`: none, as in evaluation.

    Raises:
        ValueError: When an argument is out of its range, or shapes or devices do not fit; the message has both. Or
            kernels are asked for where they cannot run.
    """
    faults = head_faults(hidden, weight, bias, labels, impl=impl, chunk_rows=chunk_rows)
    faults.require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "must be in [0, 1]")
    require_targets(faults, hidden, weight, labels, soft_targets, impl=impl)
    faults.raise_if_any()
    way = chosen(impl, weight.shape[0], hidden.device)
    learns = torch.is_grad_enabled() and soft_targets is not None and soft_targets.requires_grad
    if learns:
        way = "reference"
    if way not in NODES:
        return chunked_linear.plain_terms(
            hidden, weight, bias, labels, label_smoothing=label_smoothing, soft_targets=soft_targets, group=group
        )
    rows = chunk_rows or default_chunk_rows(weight.shape[0], device=hidden.device.type)
    return chunked_linear.cross_entropy_terms(
        hidden,
        weight,
        bias,
        labels,
        label_smoothing=label_smoothing,
        soft_targets=soft_targets,
        chunk_rows=rows,
        group=group,
    )


def label_embedding_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    auxiliary_weight: Tensor | None,
    auxiliary_bias: Tensor | None,
    embedding: Tensor | tuple[Tensor, Tensor],
    labels: Tensor,
    settings: HeadSettings,
    *,
    impl: Implementation = "auto",
    chunk_rows: int | None = None,
) -> HeadTerms:
    """Computes the terms of the Label Embedding Network (Sun et al. 2017, eq. 14) from the hidden rows on.

    Args:
        hidden: [n, H].
        weight: [C, H] of o1, what predicts.
        bias: [C] of o1, or None.
        auxiliary_weight: [C, H] of o2, which sees the hidden rows without a gradient to them; None where the
            embedding is fixed (eq. 17), or where `settings.shared` has it learn from o1.
        auxiliary_bias: [C] of o2, or None.
        embedding: E [C, C], or A [C, K] and B [K, C] of the compressed form.
        labels: [n] int64 in 0..C-1; no row is ignored here.
        settings: Weights and constants.
        impl: `reference`: plain lines. `closed_form`: one node from the logits on, once differentiable. `chunked`:
            logits of some rows at a time, the gradients made in the forward pass: of `total` only, and
            differentiable once. `triton`: the same on a GPU, by kernels. `auto`: for many labels chunks,
            for few the closed form.
        chunk_rows: How many rows at a time; fewer take less memory and a little longer. None: what is fastest.

    Raises:
        ValueError: When an argument is out of its range, or shapes or devices do not fit; the message has both. Or
            kernels are asked for where they cannot run.
    """
    faults = head_faults(hidden, weight, bias, labels, impl=impl, chunk_rows=chunk_rows)
    require_tables(faults, hidden, weight, auxiliary_weight, auxiliary_bias, embedding)
    require_auxiliary(faults, settings)
    faults.raise_if_any()
    num_labels = weight.shape[0]
    way = chosen(impl, num_labels, hidden.device)
    if way in NODES:
        rows = chunk_rows or default_chunk_rows(num_labels, device=hidden.device.type)
        layers = hidden, weight, bias, auxiliary_weight, auxiliary_bias
        return chunked.label_embedding_terms(*layers, embedding, labels, settings, chunk_rows=rows)
    first = F.linear(hidden, weight, bias)
    second = None
    if auxiliary_weight is not None and not settings.shared:
        with auxiliary_precision(settings, hidden):
            second = F.linear(hidden.detach(), auxiliary_weight, auxiliary_bias)
    embedded = embedding_rows(embedding, labels, sparse_gradients=settings.sparse_gradients)
    return terms_of_logits(first, second, embedded, labels, settings, implementation=way)


def auxiliary_precision(settings: HeadSettings, hidden: Tensor) -> AbstractContextManager[object]:
    """Returns what the second layer's products are computed under, outside of the chunks: their type, or nothing."""
    if settings.auxiliary_dtype is None:
        return nullcontext()
    return torch.autocast(hidden.device.type, dtype=settings.auxiliary_dtype)


def terms_of_logits(
    first: Tensor,
    second: Tensor | None,
    embedded: Tensor,
    labels: Tensor,
    settings: HeadSettings,
    *,
    implementation: Implementation = "auto",
) -> HeadTerms:
    """Computes the terms of the Label Embedding Network (Sun et al. 2017, eq. 14) from logits.

    Args:
        first: z1 [n, C], what predicts.
        second: z2 [n, C], from detached hidden rows; None where the embedding is fixed (eq. 17), or where
            `settings.shared` has it learn from `first`: then `auxiliary` and `hinge` are 0.
        embedded: e [n, C], the rows of the label embedding of `labels`.
        labels: [n] int64 in 0..C-1; no row is ignored here.
        settings: Weights and constants.
        implementation: `reference`: plain lines. `closed_form`: one node with written gradients, once
            differentiable. `auto`: the closed form, or the plain lines where torch.compile fuses them
            anyway, or where the embedding is fixed.
    """
    fast = implementation == "closed_form" or (implementation == "auto" and not torch.compiler.is_compiling())
    if settings.shared:
        second = first.detach()
    if fast and second is not None:
        return closed_form.label_embedding_terms(first, second, embedded, labels, settings)
    return reference.label_embedding_terms(first, second, embedded, labels, settings)
