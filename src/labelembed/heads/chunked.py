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
from labelembed.heads.chunks import BLOCK_ROWS, EvenShare, LinearChunks, compute_dtype, log_normalisers, scratch
from labelembed.heads.embedding_tables import CompressedTable, FullTable, table_of
from labelembed.heads.label_groups import Block, LabelGroups, label_groups, products_sum
from labelembed.heads.terms import HeadSettings, HeadTerms


class _Options(NamedTuple):
    settings: HeadSettings
    chunk_rows: int
    dtype: torch.dtype
    learns: bool


class _Pass:
    """One pass over the rows: the sums of the terms, and the gradients as they add up."""

    def __init__(self, hidden: Tensor, labels: Tensor, settings: HeadSettings, groups: LabelGroups) -> None:
        self.settings, self.groups = settings, groups
        self.rows = hidden[groups.order]
        self.labels = labels[groups.order]

    def begin(
        self,
        first: LinearChunks,
        second: LinearChunks | None,
        table: FullTable | CompressedTable,
        *,
        like: Tensor,
        needs: tuple[bool, bool, bool, bool],
    ) -> None:
        """Sets all sums to 0; `needs`: whether gradients of the rows, `first`, `second` and the table are wanted."""
        n, num_labels = len(self.labels), first.weight.shape[0]
        self.first, self.second, self.table, self.needs = first, second, table, needs
        self.d_hidden = like.new_empty(self.rows.shape) if needs[0] else None
        # Of each row: log of its normaliser, its true logit, and log p2 of the true label.
        self.normaliser, self.true, self.log_second = (like.new_zeros(n, 1) for _ in range(3))
        self.dot, self.embedding = like.new_zeros(()), like.new_zeros(())
        self.right = torch.zeros((), dtype=torch.int64, device=like.device)
        self.row_factor = float(self.settings.row_factor(n, like=like))
        self.hinge_factor = float(self.settings.hinge_factor(self.row_factor))
        weights = self.settings.output_weight, float(self.settings.target_weight), self.settings.uniform_weight
        self.weight_sum = sum(weights)
        self.output_share, self.target_share = (part / (self.weight_sum or 1.0) for part in weights[:2])
        most = self.groups.most_rows()
        self.first_logits = scratch("first", most, num_labels, like=like)
        self.second_logits = self.first_logits if second is None else scratch("second", most, num_labels, like=like)
        block = min(most, BLOCK_ROWS)
        self.work, self.taught, self.embedded, self.soft = (
            scratch(name, block, num_labels, like=like) for name in ("work", "taught", "embedded", "soft")
        )

    def chunk(self, blocks: list[Block]) -> None:
        """Takes in the rows of some blocks."""
        begin, end = blocks[0].begin, blocks[-1].end
        rows = self.rows[begin:end]
        learns = self.second is not None or self.settings.shared
        first = self.first.logits(rows, out=self.first_logits[: end - begin])
        second = first
        if self.second is not None:
            second = self.second.logits(rows, out=self.second_logits[: end - begin])
        for block in blocks:
            part = slice(block.begin - begin, block.end - begin)
            names = self.groups.labels[block.label : block.label + block.pieces]
            embedded = self.embedded[: block.pieces]
            self.table.rows(names, embedded)
            soft = self.soft[: block.pieces]
            if learns:
                self._teach(block, names, second[part], embedded, soft)
            else:
                torch.softmax(embedded, dim=1, out=soft)
            if self.second is not None:
                self._second_block(block, second[part])
            self._first_block(block, first[part], soft)
        if self.needs[1]:
            self.first.fold(first, rows, first.new_full((end - begin,), self.weight_sum * self.row_factor))
        if self.d_hidden is not None:
            self.first.back(first, self.d_hidden[begin:end])
        if self.second is not None and self.needs[2]:
            self.second.fold(second, rows, self._second_scale(begin, end))

    def _teach(self, block: Block, names: Tensor, logits: Tensor, embedded: Tensor, soft: Tensor) -> None:
        """Adds what rows that are right teach their labels' rows of E; writes softmax(e) to `soft`."""
        index = self.labels[block.begin : block.end, None]
        rows = _right_rows(logits, index)
        self.right += len(rows)
        if not len(rows):
            torch.softmax(embedded, dim=1, out=soft)
            return
        piece = rows // block.size
        counts = torch.bincount(piece, minlength=block.pieces).to(soft.dtype)[:, None]
        work, taught = self.work, self.taught[: block.pieces]
        softened = torch.index_select(logits, 0, rows, out=work[: len(rows)])
        torch.softmax(softened.mul_(1 / self.settings.temperature), dim=1, out=softened)  # eq. 10
        taught.zero_().index_add_(0, piece, softened)
        # eq. 11: CE(t, e) = logsumexp(e) - t . e, added up over the rows of each label.
        highest = embedded.amax(dim=1, keepdim=True)
        self.embedding -= torch.dot(taught.view(-1), embedded.view(-1))
        torch.softmax(embedded, dim=1, out=soft)
        self.embedding += ((highest - soft.amax(dim=1, keepdim=True).log()) * counts).sum()
        if self.needs[3]:
            self.table.fold(names, taught.addcmul_(soft, counts, value=-1), embedded)

    def _second_block(self, block: Block, logits: Tensor) -> None:
        """Overwrites the second layer's logits by d auxiliary / d z2 times n."""
        assert self.second is not None
        index = self.labels[block.begin : block.end, None]
        true = logits.gather(1, index)
        torch.softmax(logits, dim=1, out=logits)
        normaliser = log_normalisers(logits, index, true, self.second, self.rows[block.begin : block.end])
        self.log_second[block.begin : block.end] = true - normaliser
        if self.needs[2]:
            logits.scatter_add_(1, index, torch.full_like(true, -1.0))

    def _first_block(self, block: Block, logits: Tensor, soft: Tensor) -> None:
        """Overwrites the first layer's logits by what they change the loss by, over `weight_sum` and times n."""
        part = slice(block.begin, block.end)
        index = self.labels[part, None]
        by_piece = logits.view(block.pieces, block.size, -1)
        self.dot += products_sum(by_piece, soft)
        self.true[part] = logits.gather(1, index)
        torch.softmax(logits, dim=1, out=logits)
        self.normaliser[part] = log_normalisers(logits, index, self.true[part], self.first, self.rows[part])
        if not (self.needs[0] or self.needs[1]):
            return
        if self.target_share:
            by_piece.sub_(soft[:, None], alpha=self.target_share)
        logits.scatter_add_(1, index, torch.full_like(self.true[part], -self.output_share))

    def _second_scale(self, begin: int, end: int) -> Tensor:
        """Returns [c], how much the auxiliary term and the hinge count in each row."""
        true = self.log_second[begin:end, 0].exp()
        excess = (true - self.settings.confidence_limit).clamp_min_(0)
        slope = true if self.settings.hinge_norm == 1 else true * excess * 2
        return self.row_factor - (excess > 0) * slope * self.hinge_factor

    def finish(self) -> HeadTerms:
        """Returns the terms, and sees to the parts of the gradients that need all rows."""
        settings, row_factor = self.settings, self.row_factor
        normalisers = self.normaliser.sum()
        output = (normalisers - self.true.sum()) * row_factor  # eq. 7
        target = (normalisers - self.dot) * row_factor  # eq. 13
        total = output * settings.output_weight + target * float(settings.target_weight)
        if self.d_hidden is not None:
            self.d_hidden.mul_(self.weight_sum * row_factor)
        uniform = auxiliary = hinge = embedding = output.new_zeros(())
        if settings.uniform_weight > 0:
            even = EvenShare(self.first, self.rows)
            uniform = (normalisers - even.mean_logits()) * row_factor
            total = total + uniform * settings.uniform_weight
            even.fold(settings.uniform_weight * row_factor, self.d_hidden)
        if self.second is not None:
            auxiliary = -self.log_second.sum() * row_factor  # eq. 8
            excess = (self.log_second.exp() - settings.confidence_limit).clamp_min_(0)
            hinge = (excess if settings.hinge_norm == 1 else excess.square()).sum() * self.hinge_factor  # eq. 12
        if self.second is not None or settings.shared:
            self.right_factor = settings.row_factor(self.right, like=output)
            embedding = self.embedding * self.right_factor
        return HeadTerms(total + auxiliary + hinge + embedding, output, target, auxiliary, hinge, embedding, uniform)

    def gradients(self) -> list[Tensor | None]:
        """Returns the gradients of the hidden rows, both layers and the table, in the order of the inputs."""
        d_hidden = None
        if self.d_hidden is not None:
            d_hidden = torch.empty_like(self.d_hidden)
            d_hidden[self.groups.order] = self.d_hidden
        second = (None, None) if self.second is None else self.second.gradients()
        table = self.table.gradients(self.groups.labels, -self.right_factor) if self.needs[3] else [None, None]
        return [d_hidden, *self.first.gradients(), *second, *table]


def _right_rows(logits: Tensor, index: Tensor) -> Tensor:
    """Returns which rows [r] of logits [c, C] are highest at their label [c, 1]; of equals the first one counts."""
    true = logits.gather(1, index)
    # The highest of the others, with which no second look tells a tie from a single highest.
    others = logits.scatter_(1, index, -torch.inf).amax(dim=1, keepdim=True)
    logits.scatter_(1, index, true)
    right = true >= others
    tied = (true == others).squeeze(1)
    if bool(tied.any()):
        rows = tied.nonzero().squeeze(1)
        right[rows] = logits[rows].argmax(dim=1, keepdim=True) == index[rows]
    return right.squeeze(1).nonzero().squeeze(1)


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
            second = LinearChunks(second_weight, second_bias, dtype=dtype, learns=(needs[3], needs[4]))
        like = torch.empty(0, dtype=first.exact, device=hidden.device)
        learns = second is not None or settings.shared
        taught = table_of(table, columns, like=like, learns=(learns and needs[5], learns and needs[6]))
        groups = label_groups(labels, chunk_rows=options.chunk_rows, block_rows=min(BLOCK_ROWS, options.chunk_rows))
        sweep = _Pass(hidden.to(dtype), labels, settings, groups)
        wanted = needs[0], needs[1] or needs[2], needs[3] or needs[4], learns and (needs[5] or needs[6])
        sweep.begin(first, second, taught, like=like, needs=wanted)
        for blocks in groups.chunks:
            sweep.chunk(blocks)
        terms = sweep.finish()
        given = zip((hidden, weight, bias, second_weight, second_bias, table, columns), sweep.gradients(), strict=True)
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
