"""The label-embedding head over many labels: never the logits, or the soft targets, of all rows at once.

As in `heads.closed_form`, from the hidden rows on. Both layers' logits of a chunk of rows are made, overwritten by
their softmax and that by what they change the loss by, and folded into the gradients of the layers: so there is
nothing left to do in the backward pass. What makes it cheap (n rows, all derivatives over n but the last):

- d (output_weight output + target_weight target + uniform_weight uniform) / d z1 =
  s p1 - output_weight onehot - target_weight softmax(e) - uniform_weight / C with s the sum of the weights: one
  product for three terms. s multiplies the hidden rows, 1 / C is of rank one (`EvenShare`).
- d (auxiliary + hinge) / d z2 = (p2 - onehot) (1 - [p2[y] > limit] p2[y]): one number for each row, which
  multiplies its hidden row.
- softmax(e) and d embedding / d e are computed once for each distinct label of a block (`label_groups`).
- The softened distribution is computed only for the rows that the second layer gets right.

How many rows those are in the whole step is known after the last row: E's gradient is divided by it at the end.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from labelembed.heads import gradients_made
from labelembed.heads.chunked_parts import Chunk, OutputPart, TeachingPart
from labelembed.heads.chunks import FEWEST_ROWS, EvenShare, LinearChunks, block_rows, compute_dtype, scratch
from labelembed.heads.embedding_tables import CompressedTable, FullTable, table_of
from labelembed.heads.label_groups import LabelGroups, label_groups
from labelembed.heads.terms import HeadSettings, HeadTerms


class _Options(NamedTuple):
    settings: HeadSettings
    chunk_rows: int
    dtype: torch.dtype
    learns: bool

    def sizes(self, num_labels: int) -> dict[str, int]:
        """Returns how many rows a chunk and a block hold."""
        return {"chunk_rows": self.chunk_rows, "block_rows": block_rows(self.chunk_rows, num_labels)}


class _Sweep:
    """Passes over the rows: the terms, and the gradients as they add up.

    Args:
        hidden: [n, H].
        labels: [n].
        options: Of the head.
        first: The first layer.
        second: The second, or None.
        table: E.
        like: An empty tensor of the type of all sums.
        needs: Whether gradients of the hidden rows, of both layers and of the table are wanted.
    """

    def __init__(
        self,
        hidden: Tensor,
        labels: Tensor,
        options: _Options,
        *,
        first: LinearChunks,
        second: LinearChunks | None,
        table: FullTable | CompressedTable,
        like: Tensor,
        needs: tuple[bool, bool, bool, bool],
    ) -> None:
        self.hidden, self.labels, self.options, self.table, self.needs = hidden, labels, options, table, needs
        self.like, self.first = like, first
        settings = options.settings
        self.some = settings.sample(labels)
        self.row_factor = float(settings.row_factor(len(labels), like=like))
        self.d_hidden = like.new_empty(hidden.shape) if needs[0] else None
        self.output = OutputPart(
            first, settings, row_factor=self.row_factor, d_hidden=self.d_hidden, learns=needs[1], like=like
        )
        self.teaching = None
        if second is not None or settings.shared:
            seen = None
            if second is None and self.some is not None:
                seen = torch.zeros_like(labels, dtype=torch.bool).index_fill_(0, self.some, True)
            self.teaching = TeachingPart(
                second, table, settings, row_factor=self.row_factor, learns=needs[2:], rows_seen=seen, like=like
            )
        self.second = second

    def run(self, groups: LabelGroups) -> None:
        """Takes in all rows."""
        # A loop of their own where the second layer and E take a sample, whose chunks are then as large as those of all
        # rows; and where memory is dear, which one chunk of logits takes less of than two: their labels' rows of E are
        # made twice, so that it takes a little longer.
        apart = self.second is not None and (self.some is not None or self.options.chunk_rows < FEWEST_ROWS)
        self._pass(groups, None, output=self.output, teaching=None if apart else self.teaching)
        if apart:
            some = groups
            if self.some is not None:
                some = label_groups(self.labels[self.some], **self.options.sizes(self.first.weight.shape[0]))
            self._pass(some, self.some, output=None, teaching=self.teaching)

    def _pass(
        self,
        groups: LabelGroups,
        rows: Tensor | None,
        *,
        output: OutputPart | None,
        teaching: TeachingPart | None,
    ) -> None:
        num_labels, most = self.first.weight.shape[0], groups.most_rows()
        first = scratch("first", most, num_labels, like=self.like)
        second = first
        if output is not None and teaching is not None and self.second is not None:
            second = scratch("second", most, num_labels, like=self.like)
        block_rows = min(most, self.options.sizes(num_labels)["block_rows"])
        names = ("work", "embedded", "soft") if teaching is None else ("work", "embedded", "soft", "taught")
        buffers = {name: scratch(name, block_rows, num_labels, like=self.like) for name in names}
        embedded, soft = buffers["embedded"], buffers["soft"]
        for blocks in groups.chunks:
            places = groups.order[blocks[0].begin : blocks[-1].end]
            places = places if rows is None else rows[places]
            hidden = self.hidden[places].to(self.options.dtype)
            chunk = Chunk(places, hidden, self.labels[places][:, None], blocks)
            logits = None if output is None else output.begin(chunk, first[: len(places)])
            if teaching is not None:
                teaching.begin(chunk, logits, second[: len(places)])
            for number, block in enumerate(blocks):
                labels = groups.labels[block.label : block.label + block.pieces]
                if output is None:
                    if teaching is not None:
                        teaching.teach_alone(chunk, number, labels, **buffers)
                    continue
                self.table.rows(labels, embedded[: block.pieces])
                torch.softmax(embedded[: block.pieces], dim=1, out=soft[: block.pieces])
                if teaching is not None:
                    teaching.teach(chunk, number, labels, **buffers)
                output.take(chunk, block, soft[: block.pieces], buffers["work"])
            if teaching is not None:
                teaching.end(chunk)
            if output is not None:
                output.end(chunk)

    def terms(self) -> HeadTerms:
        """Returns the terms, and sees to the parts of the gradients that need all rows."""
        settings, row_factor, sums = self.options.settings, self.row_factor, self.output
        output = (sums.normalisers - sums.true_sum) * row_factor  # eq. 7
        target = (sums.normalisers - sums.dot) * row_factor  # eq. 13
        total = output * settings.output_weight + target * float(settings.target_weight)
        uniform = auxiliary = hinge = embedding = output.new_zeros(())
        if settings.uniform_weight > 0:
            even = EvenShare(self.first, self.hidden)
            uniform = (sums.normalisers - even.mean_logits()) * row_factor
            total = total + uniform * settings.uniform_weight
            even.fold(settings.uniform_weight * row_factor, self.d_hidden)
        taught = self.teaching
        if taught is not None:
            auxiliary = -taught.log_sum * taught.row_factor  # eq. 8
            hinge = taught.excess_sum * taught.hinge_factor  # eq. 12
            embedding, self.right_factor = settings.mean_over_right(  # eq. 11
                taught.embedding_sum(), taught.right, rows=len(self.labels)
            )
        return HeadTerms(total + auxiliary + hinge + embedding, output, target, auxiliary, hinge, embedding, uniform)

    def gradients(self, groups: LabelGroups) -> list[Tensor | None]:
        """Returns the gradients of the hidden rows, both layers and the table, in the order of the inputs."""
        second = (None, None) if self.second is None else self.second.gradients()
        table = self.table.gradients(groups.labels, -self.right_factor) if self.needs[3] else [None, None]
        return [self.d_hidden, *self.first.gradients(), *second, *table]


class _LabelEmbedding(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        second_weight: Tensor | None,
        second_bias: Tensor | None,
        table: Tensor,
        columns: Tensor | None,
        labels: Tensor,
        options: _Options,
    ) -> tuple[Tensor, ...]:
        settings, dtype = options.settings, options.dtype
        needs = [options.learns and need for need in ctx.needs_input_grad[:7]]
        first = LinearChunks(weight, bias, dtype=dtype, learns=(needs[1], needs[2]))
        second = None
        if second_weight is not None:
            second_dtype = dtype if dtype == torch.float64 else settings.auxiliary_dtype or dtype
            second = LinearChunks(second_weight, second_bias, dtype=second_dtype, learns=(needs[3], needs[4]))
        like = torch.empty(0, dtype=first.exact, device=hidden.device)
        groups = label_groups(labels, **options.sizes(weight.shape[0]))
        learns = second is not None or settings.shared
        pieces = sum(block.pieces for chunk in groups.chunks for block in chunk) if settings.sparse_gradients else None
        made_table = table_of(
            table, columns, like=like, learns=(learns and needs[5], learns and needs[6]), sparse_rows=pieces
        )
        wanted = needs[0], needs[1] or needs[2], needs[3] or needs[4], learns and (needs[5] or needs[6])
        sweep = _Sweep(hidden, labels, options, first=first, second=second, table=made_table, like=like, needs=wanted)
        sweep.run(groups)
        terms = sweep.terms()
        inputs = (hidden, weight, bias, second_weight, second_bias, table, columns)
        given = zip(inputs, sweep.gradients(groups), strict=True)
        made = [None if value is None or grad is None else grad.to(value.dtype) for value, grad in given]
        gradients_made.keep(ctx, made)
        return tuple(terms)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        return (*gradients_made.hand_out(ctx, grads, name="label-embedding"), None, None)


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
    chunk_rows: int,
) -> HeadTerms:
    """Computes the terms of `heads.label_embedding_cross_entropy` in chunks; `total` can be differentiated, once."""
    table, columns = embedding if isinstance(embedding, tuple) else (embedding, None)
    options = _Options(settings, chunk_rows, compute_dtype(hidden), torch.is_grad_enabled())
    second = (None, None) if settings.shared else (auxiliary_weight, auxiliary_bias)
    with torch.autocast(hidden.device.type, enabled=False):
        terms = _LabelEmbedding.apply(hidden, weight, bias, *second, table, columns, labels, options)
    return HeadTerms(*terms)
