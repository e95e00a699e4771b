"""Heads whose labels are split over processes: each computes its own labels for the rows of all of them.

Every process gathers hidden rows and labels of all processes, [N, H] and [N]. Of its own labels it has the rows of the
output layers, the rows of A and the columns of B; a chunk of rows' logits over them is all that it ever holds. What a
row needs to know of the other processes' labels is one number for each softmax: the log of the sum of exponentials
over them. These go round for each chunk (`_Facts`, and one more for the softened distribution of the rows that are
right), the rows of A of the labels in the step once at its beginning; what the step changes the hidden rows by, each
process' part of it, goes back to the rows' owners at its end. All else is as in `heads.chunked`.

The total is that of the whole step in every process, and the gradients of what is split are exactly those of one
process. Those of the hidden rows are times the number of processes, for `DistributedDataParallel` averages the
gradients of the encoder. It must not average what is split.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.heads import gradients_made
from labelembed.heads.chunked_linear import CrossEntropyTerms
from labelembed.heads.chunks import BLOCK_ROWS, LinearChunks, compute_dtype, default_chunk_rows
from labelembed.heads.embedding_tables import CompressedTable
from labelembed.heads.label_groups import label_groups
from labelembed.heads.label_shards import LabelShards, added, to_owners
from labelembed.heads.shard_sweep import ShardSweep
from labelembed.heads.terms import HeadSettings, HeadTerms, require_no_auxiliary


class _Options(NamedTuple):
    settings: HeadSettings
    shards: LabelShards
    chunk_rows: int
    dtype: torch.dtype
    learns: bool


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        second_weight: Tensor | None,
        second_bias: Tensor | None,
        left: Tensor | None,
        right: Tensor | None,
        labels: Tensor,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        shards, settings, dtype = options.shards, options.settings, options.dtype
        needs = [options.learns and need for need in ctx.needs_input_grad[:7]]
        counts = whole_batch.row_counts(len(labels), device=labels.device)
        rows, every_label = whole_batch.gathered(hidden.detach().to(dtype), labels, counts=counts)
        _refuse_strange(every_label, shards)
        groups = label_groups(
            every_label, chunk_rows=options.chunk_rows, block_rows=min(BLOCK_ROWS, options.chunk_rows)
        )
        first = LinearChunks(weight, bias, dtype=dtype, learns=(needs[1], needs[2]))
        like = torch.empty(0, dtype=first.exact, device=hidden.device)
        second = table = None
        if second_weight is not None:
            second = LinearChunks(second_weight, second_bias, dtype=dtype, learns=(needs[3], needs[4]))
        if left is not None and right is not None:
            learns = second is not None or settings.shared
            rows_of_labels = _rows_of_labels(left.to(like.dtype), groups.labels, shards)
            table = CompressedTable(rows_of_labels, right, like=like, learns=(learns and needs[5], learns and needs[6]))
        sweep = ShardSweep(rows, every_label, settings, groups, shards)
        sweep.begin(
            first,
            second,
            table,
            like=like,
            own_rows=len(labels),
            needs=(needs[0], needs[1] or needs[2], needs[3] or needs[4]),
        )
        for blocks in groups.chunks:
            sweep.chunk(blocks)
        terms = sweep.finish()
        d_hidden = sweep.d_hidden
        if d_hidden is not None:
            in_order = torch.empty_like(d_hidden)
            in_order[groups.order] = d_hidden
            d_hidden = to_owners(in_order, counts, own=shards.process).sum(dim=0).mul_(shards.processes)
        d_second = (None, None) if second is None else second.gradients()
        d_left = d_right = None
        if table is not None:
            d_rows, d_right = table.gradients(groups.labels, -sweep.right_factor)
            if d_rows is not None:
                d_left = _gradient_of_rows(added(d_rows), groups.labels, shards)
        inputs = (hidden, weight, bias, second_weight, second_bias, left, right)
        found = (d_hidden, *first.gradients(), *d_second, d_left, d_right)
        given = zip(inputs, found, strict=True)
        made = [None if value is None or grad is None else grad.to(value.dtype) for value, grad in given]
        gradients_made.keep(ctx, made)
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (*gradients_made.hand_out(ctx, grads, name="vocabulary-parallel"), None, None)


def _rows_of_labels(left: Tensor, labels: Tensor, shards: LabelShards) -> Tensor:
    """Returns the rows [U, K] of A of the labels [U], each from the process that has it."""
    found = left.new_zeros(len(labels), left.shape[1])
    mine, places = shards.own(labels)
    found[mine] = left[places]
    return added(found)


def _gradient_of_rows(d_rows: Tensor, labels: Tensor, shards: LabelShards) -> Tensor:
    """Returns the gradient of this process' part of A from that of the labels' rows [U, K]."""
    mine, places = shards.own(labels)
    gradient = d_rows.new_zeros(shards.count, d_rows.shape[1])
    gradient[places] = d_rows[mine]
    return gradient


def _refuse_strange(labels: Tensor, shards: LabelShards) -> None:
    """Raises ValueError for a label of no process: no shard would count it. In every process alike."""
    strange = labels[(labels < 0) | (labels >= shards.num_labels)]
    if len(strange):
        raise ValueError(
            f"`labels` must be in 0..{shards.num_labels - 1} or the objective's ignore_index, got {int(strange[0])}"
        )


def _require_shards(
    faults: ArgumentFaults, shards: LabelShards, hidden: Tensor, named: dict[str, tuple[Tensor | None, int]]
) -> None:
    """Notes tensors that are not this process' part of the labels.

    Args:
        faults: Where to.
        shards: Whose labels are whose.
        hidden: [n, H].
        named: By name, tensors and the dimension along which they have the labels.
    """
    running = whole_batch.processes()
    way_out = "build the objective after torch.distributed.init_process_group"
    faults.require(
        shards.processes == running, "shards", shards.processes, f"must be of the {running} processes here; {way_out}"
    )
    faults.require(hidden.ndim == 2, "hidden", list(hidden.shape), "must be [n, H]")
    rule = (
        f"must have the {shards.count} labels of process {shards.process} of {shards.processes} along dimension "
        "{}; a weight that is tied to another layer cannot be split"
    )
    for name, (value, dimension) in named.items():
        if value is not None:
            faults.require(value.shape[dimension] == shards.count, name, list(value.shape), rule.format(dimension))


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    shards: LabelShards,
    *,
    label_smoothing: float = 0.0,
    chunk_rows: int | None = None,
) -> CrossEntropyTerms:
    """Computes `heads.linear_cross_entropy` with the labels split over the processes; all must call it together.

    Args:
        hidden: [n, H], rows of this process; n may differ, and be 0.
        weight: [C / processes, H], the rows of this process' labels.
        bias: [C / processes] or None.
        labels: [n] int64 in 0..C-1 of this process' rows.
        shards: Which labels are whose.
        label_smoothing: s, in [0, 1].
        chunk_rows: How many rows at a time, in every process the same; None: what is fastest.

    Returns:
        The terms of the whole step, the same in every process. `total` can be differentiated, once.

    Raises:
        ValueError: When an argument is out of its range, or shapes do not fit; the message has both.
    """
    faults = ArgumentFaults()
    faults.require(0 <= label_smoothing <= 1, "label_smoothing", label_smoothing, "must be in [0, 1]")
    _require_shards(faults, shards, hidden, {"weight": (weight, 0), "bias": (bias, 0)})
    faults.raise_if_any()
    settings = HeadSettings(
        temperature=1.0,
        confidence_limit=1.0,
        hinge_norm=1,
        hinge_reduction="mean",
        output_weight=1 - label_smoothing,
        target_weight=0.0,
        uniform_weight=label_smoothing,
    )
    terms = _apply(hidden, (weight, bias, None, None, None, None), labels, settings, shards, chunk_rows)
    return CrossEntropyTerms(terms.total, terms.output, terms.uniform)


def label_embedding_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    auxiliary_weight: Tensor | None,
    auxiliary_bias: Tensor | None,
    embedding: Tensor | tuple[Tensor, Tensor],
    labels: Tensor,
    settings: HeadSettings,
    shards: LabelShards,
    *,
    chunk_rows: int | None = None,
) -> HeadTerms:
    """Computes `heads.label_embedding_cross_entropy` with the labels split over the processes; all call it together.

    Args:
        hidden: [n, H], rows of this process; n may differ, and be 0.
        weight: [C / processes, H] of o1, the rows of this process' labels.
        bias: [C / processes] of o1, or None.
        auxiliary_weight: [C / processes, H] of o2; None where `settings.shared` has E learn from o1.
        auxiliary_bias: [C / processes] of o2, or None.
        embedding: A [C / processes, K] and B [K, C / processes]: the rows and the columns of this process' labels; a
            full E cannot be split.
        labels: [n] int64 in 0..C-1 of this process' rows.
        settings: Weights and constants.
        shards: Which labels are whose.
        chunk_rows: How many rows at a time, in every process the same; None: what is fastest.

    Returns:
        The terms of the whole step, the same in every process. `total` can be differentiated, once.

    Raises:
        ValueError: When shapes do not fit; the message has both.
    """
    if isinstance(embedding, Tensor):
        found = f"a full E {list(embedding.shape)}"
        raise ValueError("`embedding` must be A and B of the compressed form where labels are split, got " + found)
    left, right = embedding
    faults = ArgumentFaults()
    of_labels = {
        "weight": (weight, 0),
        "bias": (bias, 0),
        "auxiliary_weight": (auxiliary_weight, 0),
        "auxiliary_bias": (auxiliary_bias, 0),
        "A": (left, 0),
        "B": (right, 1),
    }
    _require_shards(faults, shards, hidden, of_labels)
    require_no_auxiliary(faults, settings, where="where labels are split")
    faults.raise_if_any()
    second = (None, None) if settings.shared else (auxiliary_weight, auxiliary_bias)
    return _apply(hidden, (weight, bias, *second, left, right), labels, settings, shards, chunk_rows)


def _apply(
    hidden: Tensor,
    tensors: tuple[Tensor | None, ...],
    labels: Tensor,
    settings: HeadSettings,
    shards: LabelShards,
    chunk_rows: int | None,
) -> HeadTerms:
    # Of the largest part, so that the chunks are the same in every process.
    at_once = chunk_rows or default_chunk_rows(shards.sizes[0], device=hidden.device.type)
    options = _Options(settings, shards, at_once, compute_dtype(hidden), torch.is_grad_enabled())
    with torch.autocast(hidden.device.type, enabled=False):
        return HeadTerms(*_Head.apply(hidden, *tensors, labels, options))
