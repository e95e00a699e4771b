"""The label-embedding head on a GPU: as `heads.chunked`, with the passes over the logits fused into Triton kernels.

Rows stand label by label. A chunk's logits are made by one product, read once for what is to be known of each row
(`row_statistics`), read and overwritten by their slopes (`overwrite_by_slopes`: there each label's row of E is turned
into its soft target, once for all of the label's rows in the chunk, and what the rows teach it is summed up), and go
into the products of the gradients. So of all rows and labels, and of the soft targets, there never is a tensor. First
the whole of one layer, then the whole of the other: what the sums of one take is free again for the other.

The derivatives are those of `heads.chunked`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.heads import fused_triton_launch as launch
from labelembed.heads import gradients_made
from labelembed.heads.chunks import compute_dtype
from labelembed.heads.fused_triton_linear import Layer, on_device_of, slope_weights
from labelembed.heads.fused_triton_parts import Chunk, CompressedRows, FullRows, Plan
from labelembed.heads.terms import HeadSettings, HeadTerms, full_precision


class _Options(NamedTuple):
    settings: HeadSettings
    chunk_rows: int | None
    dtype: torch.dtype
    learns: bool


class _Sweep:
    """What one or the other layer's way over all rows adds up; sums are numbers on the device."""

    def __init__(
        self,
        settings: HeadSettings,
        table: FullRows | CompressedRows,
        *,
        count: int,
        num_labels: int,
        like: Tensor,
    ) -> None:
        self.settings, self.table, self.like = settings, table, like
        self.num_labels, self.count = num_labels, count
        self.row_factor = float(settings.row_factor(count, like=like))
        # A row of a sample stands for several.
        self.second_factor = self.row_factor / settings.auxiliary_fraction
        self.hinge_factor = float(settings.hinge_factor(self.row_factor)) / settings.auxiliary_fraction
        names = ("normaliser", "true", "sums", "met", "auxiliary", "excess", "learned", "right")
        self.sums = {name: like.new_zeros(()) for name in names}

    def first(
        self,
        hidden: Tensor,
        layer: Layer,
        plan: Plan,
        *,
        d_hidden: Tensor | None,
        learns: bool,
        teachers: Tensor | None,
    ) -> None:
        """Takes in the output and target terms, and the uniform one; rows teach E where `teachers` [n] holds 1."""
        settings, num_labels = self.settings, self.num_labels
        output, target, even = settings.output_weight, settings.target_weight, settings.uniform_weight
        softness = 1 / settings.temperature
        weights = slope_weights(output + even + target, output, target, even / num_labels, softness, like=self.like)
        buffer = layer.buffer(min(plan.size, len(plan.labels)))
        scales = self.like.new_ones(plan.size)
        for chunk in plan:
            rows = hidden[chunk.rows].to(layer.weight.dtype)
            logits = layer.logits(rows, out=buffer)
            sharpness = None if teachers is None else weights[4:]
            known = launch.row_statistics(logits, chunk.labels, like=self.like, sharpness=sharpness)
            if known.right is not None and teachers is not None:
                known.right.mul_(teachers[chunk.rows])
            for name, values in (("normaliser", known.normaliser), ("true", known.true), ("sums", known.sums)):
                self.sums[name] += values.sum()
            self.sums["met"] += self._overwrite(chunk, logits, known, scales=scales, weights=weights, writes=learns)
            if learns:
                layer.fold(logits, rows, factor=self.row_factor)
            if d_hidden is not None:
                back = layer.back(logits, factor=self.row_factor)
                d_hidden.index_copy_(0, chunk.rows, back.to(d_hidden.dtype))

    def second(self, hidden: Tensor, layer: Layer, plan: Plan, some: Tensor | None, *, learns: bool) -> None:
        """Takes in the auxiliary term and the hinge, and what the rows that are right teach E.

        Args:
            hidden: [n, H].
            layer: The second one.
            plan: Of the rows `some` [k], or of all.
            some: Which rows it is about; None: all.
            learns: Whether its gradients are wanted.
        """
        weights = slope_weights(1.0, 1.0, 0.0, 0.0, 1 / self.settings.temperature, like=self.like)
        buffer = layer.buffer(min(plan.size, len(plan.labels)))
        # The most that a row can count for: over it, and the slopes of all rows fit any type.
        most = self.second_factor + self.hinge_factor * self.settings.hinge_norm
        for chunk in plan:
            rows = hidden[chunk.rows if some is None else some[chunk.rows]].to(layer.weight.dtype)
            logits = layer.logits(rows, out=buffer)
            known = launch.row_statistics(logits, chunk.labels, like=self.like, sharpness=weights[4:])
            log_true = known.true - known.normaliser
            true = log_true.exp()
            excess = (true - self.settings.confidence_limit).clamp_min_(0)
            slope = true if self.settings.hinge_norm == 1 else true * excess * 2
            scales = (self.second_factor - (excess > 0) * slope * self.hinge_factor) / most
            self.sums["auxiliary"] -= log_true.sum()
            self.sums["excess"] += (excess if self.settings.hinge_norm == 1 else excess.square()).sum()
            self._overwrite(chunk, logits, known, scales=scales, weights=weights, writes=learns)
            if learns:
                layer.fold(logits, rows, factor=most)

    def _overwrite(
        self,
        chunk: Chunk,
        logits: Tensor,
        known: launch.Statistics,
        *,
        scales: Tensor,
        weights: Tensor,
        writes: bool,
    ) -> Tensor:
        """Overwrites the chunk's logits, and lets the rows that are right teach E; returns the sum of softmax(e) z."""
        targets = self.table.targets(chunk)
        met, taught = launch.overwrite_by_slopes(
            logits, chunk.labels, known, chunk.pieces, targets, scales=scales, weights=weights, writes=writes
        )
        assert met is not None
        if known.right is not None and taught is not None:
            # eq. 11: CE(t, e) = logsumexp(e) - t . e
            self.sums["learned"] += torch.dot(known.right, targets.normaliser[chunk.piece_of_row]) - taught
            self.sums["right"] += known.right.sum()
            if targets.slopes is not None:
                self.table.fold(chunk, targets)
        return met

    def terms(self, *, has_second: bool) -> HeadTerms:
        """Returns the terms, of which one is a mean over rows that are only now counted."""
        settings, sums, row_factor = self.settings, self.sums, self.row_factor
        output = (sums["normaliser"] - sums["true"]) * row_factor  # eq. 7
        target = (sums["normaliser"] - sums["met"]) * row_factor  # eq. 13
        total = output * settings.output_weight + target * torch.as_tensor(settings.target_weight, dtype=output.dtype)
        uniform = auxiliary = hinge = embedding = output.new_zeros(())
        if settings.uniform_weight > 0:
            uniform = (sums["normaliser"] - sums["sums"] / self.num_labels) * row_factor
            total = total + uniform * settings.uniform_weight
        if has_second:
            auxiliary = sums["auxiliary"] * self.second_factor  # eq. 8
            hinge = sums["excess"] * self.hinge_factor  # eq. 12
        if has_second or settings.shared:
            embedding, self.right_factor = settings.mean_over_right(sums["learned"], sums["right"], rows=self.count)
        return HeadTerms(total + auxiliary + hinge + embedding, output, target, auxiliary, hinge, embedding, uniform)


class _LabelEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        second_weight: Tensor | None,
        second_bias: Tensor | None,
        left: Tensor,
        right: Tensor | None,
        labels: Tensor,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        settings, dtype = options.settings, options.dtype
        needs = [options.learns and need for need in ctx.needs_input_grad[:7]]
        like = full_precision(hidden.new_empty(0, dtype=dtype))
        teaches = second_weight is not None or settings.shared
        taught = teaches and needs[5], teaches and needs[6]
        num_labels = weight.shape[0]
        plan = taught_by = Plan(labels, num_labels, options.chunk_rows)
        some = settings.sample(labels) if teaches else None
        if some is not None and second_weight is not None:
            taught_by = Plan(labels[some], num_labels, options.chunk_rows)
        table: FullRows | CompressedRows
        if right is None:
            sparse_rows = taught_by.pieces() if settings.sparse_gradients else None
            table = FullRows(left, like=like, learns=taught[0], sparse_rows=sparse_rows)
        else:
            table = CompressedRows(left, right, dtype=dtype, like=like, learns=taught)
        sweep = _Sweep(settings, table, count=len(labels), num_labels=num_labels, like=like)
        teachers = None
        if settings.shared:
            teachers = (
                like.new_ones(len(labels)) if some is None else like.new_zeros(len(labels)).index_fill_(0, some, 1)
            )
        d_hidden = torch.empty_like(hidden) if needs[0] else None
        layer = Layer(weight, bias, dtype=dtype, learns=(needs[1], needs[2]))
        sweep.first(hidden, layer, plan, d_hidden=d_hidden, learns=any(needs[:3]), teachers=teachers)
        made = [d_hidden, *layer.gradients()]
        del layer  # and the sums that are not of the weight's own type
        if second_weight is None:
            made += [None, None]
        else:
            second_dtype = dtype if dtype == torch.float64 else settings.auxiliary_dtype or dtype
            layer = Layer(second_weight, second_bias, dtype=second_dtype, learns=(needs[3], needs[4]))
            sweep.second(hidden, layer, taught_by, some, learns=needs[3] or needs[4])
            made += layer.gradients()
        terms = sweep.terms(has_second=second_weight is not None)
        made += table.gradients(plan.distinct, sweep.right_factor) if any(taught) else [None, None]
        gradients_made.keep(ctx, made)
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        made = gradients_made.hand_out(ctx, grads, name="label-embedding", way="fused", scale=launch.scale)
        return (*made, None, None)


def label_embedding_terms(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    auxiliary_weight: Tensor | None,
    auxiliary_bias: Tensor | None,
    embedding: Tensor | tuple[Tensor, Tensor],
    labels: Tensor,
    settings: HeadSettings,
    *,
    chunk_rows: int | None,
) -> HeadTerms:
    """Computes the terms of `heads.label_embedding_cross_entropy` by kernels; `total` can be differentiated, once."""
    table, columns = embedding if isinstance(embedding, tuple) else (embedding, None)
    options = _Options(settings, chunk_rows, compute_dtype(hidden), torch.is_grad_enabled())
    second = (None, None) if settings.shared else (auxiliary_weight, auxiliary_bias)
    with torch.autocast(hidden.device.type, enabled=False), on_device_of(hidden):
        terms = _LabelEmbedding.apply(hidden, weight, bias, *second, table, columns, labels, options)
    return HeadTerms(*terms)
