"""The two halves of the chunked label-embedding head: what the first layer learns, and what the second and E do.

Each takes in chunks of rows in the order of `label_groups`, whose logits it overwrites, and adds up its terms and
gradients. All derivatives are in `heads.chunked`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.heads.chunks import LinearChunks, log_normalisers_of, scratch
from labelembed.heads.embedding_tables import CompressedTable, FullTable
from labelembed.heads.label_groups import Block
from labelembed.heads.terms import HeadSettings

# Labels whose rows of E are made anew at a time where the usual way to their normaliser fails.
_ROWS_MADE_ANEW = 32


class Chunk(NamedTuple):
    """Some rows: their places [c] in the batch, hidden rows [c, H], labels [c, 1], blocks of all."""

    places: Tensor
    hidden: Tensor
    label_column: Tensor
    blocks: list[Block]

    def part(self, block: Block) -> slice:
        """Returns where a block's rows are in the chunk."""
        begin = self.blocks[0].begin
        return slice(block.begin - begin, block.end - begin)


class OutputPart:
    """`output` and `target`, which train the hidden rows and the first layer.

    Args:
        layer: The first layer.
        settings: Of the head.
        row_factor: What a sum over the rows is multiplied with.
        d_hidden: [n, H] to write the gradient of the hidden rows to, or None.
        learns: Whether gradients of the layer are wanted.
        like: A tensor of the type of all sums.
    """

    def __init__(
        self,
        layer: LinearChunks,
        settings: HeadSettings,
        *,
        row_factor: float,
        d_hidden: Tensor | None,
        learns: bool,
        like: Tensor,
    ) -> None:
        self.layer, self.d_hidden, self.learns, self.row_factor = layer, d_hidden, learns, row_factor
        weights = settings.output_weight, float(settings.target_weight), settings.uniform_weight
        self.weight_sum = sum(weights)
        self.output_share, self.target_share = (part / (self.weight_sum or 1.0) for part in weights[:2])
        # Sums over the rows: of the normalisers, of the true labels' logits, of softmax(e) . z.
        self.normalisers, self.true_sum, self.dot = (like.new_zeros(()) for _ in range(3))

    def begin(self, chunk: Chunk, out: Tensor) -> Tensor:
        """Writes the chunk's logits to `out`."""
        self.logits = self.layer.logits(chunk.hidden, out=out)
        self.true = self.logits.gather(1, chunk.label_column)
        self.shares = torch.empty_like(self.true)
        return self.logits

    def take(self, chunk: Chunk, block: Block, soft: Tensor, work: Tensor) -> None:
        """Overwrites a block's logits by p1 less the target's share, of `soft` [pieces, C] = softmax(e)."""
        part = chunk.part(block)
        logits = self.logits[part]
        by_piece = logits.view(block.pieces, block.size, -1)
        summed = logits if block.size == 1 else torch.sum(by_piece, dim=1, out=work[: block.pieces])
        self.dot += torch.dot(summed.view(-1), soft.view(-1))
        torch.softmax(logits, dim=1, out=logits)
        torch.gather(logits, 1, chunk.label_column[part], out=self.shares[part])
        if self.target_share and (self.learns or self.d_hidden is not None):
            by_piece.sub_(soft[:, None], alpha=self.target_share)

    def end(self, chunk: Chunk) -> None:
        """Folds the chunk into the gradients."""
        normalisers = log_normalisers_of(self.shares, self.true, self.layer, chunk.hidden)
        self.normalisers += normalisers.sum()
        self.true_sum += self.true.sum()
        if not self.learns and self.d_hidden is None:
            return
        self.logits.scatter_add_(1, chunk.label_column, torch.full_like(self.true, -self.output_share))
        scale = self.weight_sum * self.row_factor
        if self.learns:
            self.layer.fold(self.logits, chunk.hidden, self.logits.new_full((len(self.logits),), scale))
        if self.d_hidden is not None:
            slopes = scratch("back", *chunk.hidden.shape, like=self.logits)
            self.layer.back(self.logits, slopes)
            self.d_hidden.index_copy_(0, chunk.places, slopes.mul_(scale))


class TeachingPart:
    """`auxiliary` and `hinge`, which train the second layer, and `embedding`, which trains E.

    Args:
        layer: The second layer; None where E learns from the first.
        table: E.
        settings: Of the head.
        row_factor: What a sum over the rows is multiplied with.
        learns: Whether gradients of the layer, and of E, are wanted.
        rows_seen: [n] bool: which rows of the batch E learns from; None: all that come.
        like: A tensor of the type of all sums.
    """

    def __init__(
        self,
        layer: LinearChunks | None,
        table: FullTable | CompressedTable,
        settings: HeadSettings,
        *,
        row_factor: float,
        learns: tuple[bool, bool],
        rows_seen: Tensor | None,
        like: Tensor,
    ) -> None:
        self.layer, self.table, self.settings, self.learns, self.rows_seen = layer, table, settings, learns, rows_seen
        # A row of a sample stands for several.
        self.row_factor = row_factor / settings.auxiliary_fraction
        self.hinge_factor = float(settings.hinge_factor(row_factor)) / settings.auxiliary_fraction
        self.log_sum, self.excess_sum, self.dot = (like.new_zeros(()) for _ in range(3))
        self.right = torch.zeros((), dtype=torch.int64, device=like.device)
        # Of labels that were taught: their numbers, how often, their own logit in e and its softmax.
        self.taught: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def begin(self, chunk: Chunk, first_logits: Tensor | None, out: Tensor | None) -> None:
        """Writes the chunk's logits to `out`, or takes those of the first layer; finds the rows that are right."""
        if self.layer is not None and out is not None:
            self.hidden = chunk.hidden.to(self.layer.weight.dtype)
            self.logits = self.layer.logits(self.hidden, out=out)
        elif first_logits is not None:
            self.logits = first_logits
        self.true = self.logits.gather(1, chunk.label_column)
        right = _right_rows(self.logits, chunk.label_column, self.true)
        if self.rows_seen is not None:
            right &= self.rows_seen[chunk.places]
        self.right += right.sum()
        self.right_rows = right.nonzero().squeeze(1)
        ends = torch.tensor([chunk.part(block).stop for block in chunk.blocks], device=right.device)
        self.ends = [0, *torch.searchsorted(self.right_rows, ends).tolist()]

    def teach(
        self, chunk: Chunk, number: int, names: Tensor, work: Tensor, taught: Tensor, embedded: Tensor, soft: Tensor
    ) -> None:
        """Adds what the rows of a block that are right teach their labels' rows of E.

        Args:
            chunk: Whose logits are at hand.
            number: Of the block in the chunk.
            names: [pieces], the labels of the block's pieces.
            work: [block rows, C] to write to.
            taught: The same.
            embedded: The same; holds e [pieces, C] where `soft` is made.
            soft: softmax(e) [pieces, C], or memory for it where it is not made yet (see `teach_alone`).
        """
        block = chunk.blocks[number]
        rows = self.right_rows[self.ends[number] : self.ends[number + 1]]
        if not len(rows):
            return
        pieces, slopes, counts = self._softened(rows, block, chunk, work, taught)
        mine = embedded[: block.pieces]
        if len(pieces) < block.pieces:  # labels of which no row is right are left out of all that follows
            mine = torch.index_select(mine, 0, pieces, out=work[: len(pieces)])
            names = names[pieces]
            share = soft[pieces, names]
        else:
            share = soft[: block.pieces].gather(1, names[:, None]).squeeze(1)
        self._note(names, counts, slopes, mine, share)
        if self.learns[1]:
            of_mine = soft[: block.pieces]
            if len(pieces) < block.pieces:
                of_mine = torch.index_select(of_mine, 0, pieces, out=embedded[: len(pieces)])
            self._fold(names, counts, slopes, mine, of_mine)

    def teach_alone(
        self, chunk: Chunk, number: int, names: Tensor, work: Tensor, taught: Tensor, embedded: Tensor, soft: Tensor
    ) -> None:
        """Does what `teach` does where nothing else needs rows of E: makes those of labels with a row that is right."""
        block = chunk.blocks[number]
        rows = self.right_rows[self.ends[number] : self.ends[number + 1]]
        if not len(rows):
            return
        pieces, slopes, counts = self._softened(rows, block, chunk, work, taught)
        names = names[pieces]
        mine, of_mine = embedded[: len(pieces)], soft[: len(pieces)]
        self.table.rows(names, mine)
        torch.softmax(mine, dim=1, out=of_mine)
        self._note(names, counts, slopes, mine, of_mine.gather(1, names[:, None]).squeeze(1))
        if self.learns[1]:
            self._fold(names, counts, slopes, mine, of_mine)

    def _softened(
        self, rows: Tensor, block: Block, chunk: Chunk, work: Tensor, taught: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the pieces [k] with rows that are right, the sums [k, C] of these rows' softened p2, their counts."""
        pieces, place, counts = torch.unique_consecutive(
            (rows - chunk.part(block).start) // block.size, return_inverse=True, return_counts=True
        )
        alone = len(pieces) == len(rows)
        softened = torch.index_select(self.logits, 0, rows, out=(taught if alone else work)[: len(rows)])
        if self.settings.temperature != 1:
            softened.mul_(1 / self.settings.temperature)
        torch.softmax(softened, dim=1, out=softened)  # eq. 10
        if alone:
            return pieces, softened, counts
        return pieces, taught[: len(pieces)].zero_().index_add_(0, place, softened), counts

    def _note(self, names: Tensor, counts: Tensor, slopes: Tensor, mine: Tensor, share: Tensor) -> None:
        """Adds the part of eq. 11: CE(t, e) = logsumexp(e) - t . e, over the rows of each label."""
        self.dot += torch.dot(slopes.view(-1), mine.view(-1))
        self.taught.append((names, counts, mine.gather(1, names[:, None]).squeeze(1), share))

    def _fold(self, names: Tensor, counts: Tensor, slopes: Tensor, mine: Tensor, soft: Tensor) -> None:
        self.table.fold(names, slopes.addcmul_(soft, counts.to(slopes.dtype)[:, None], value=-1), mine)

    def end(self, chunk: Chunk) -> None:
        """Folds the chunk into the second layer's gradients; overwrites its logits."""
        if self.layer is None:
            return
        logits, settings = self.logits, self.settings
        torch.softmax(logits, dim=1, out=logits)
        shares = logits.gather(1, chunk.label_column)
        log_true = self.true - log_normalisers_of(shares, self.true, self.layer, self.hidden)
        true = log_true.squeeze(1).exp()
        excess = (true - settings.confidence_limit).clamp_min_(0)
        self.log_sum += log_true.sum()
        self.excess_sum += (excess if settings.hinge_norm == 1 else excess.square()).sum()
        if self.learns[0]:
            logits.scatter_add_(1, chunk.label_column, torch.full_like(shares, -1.0))
            slope = true if settings.hinge_norm == 1 else true * excess * 2
            scale = self.row_factor - (excess > 0) * slope * self.hinge_factor
            self.layer.fold(logits, self.hidden, scale)

    def embedding_sum(self) -> Tensor:
        """Returns the sum of CE(t, e) over the rows that are right."""
        if not self.taught:
            return self.dot
        names, counts, own, shares = (torch.cat(parts) for parts in zip(*self.taught, strict=True))
        normalisers = own - shares.log()
        lost = (shares < torch.finfo(shares.dtype).tiny * 1e6).nonzero().squeeze(1)
        for some in torch.split(lost, _ROWS_MADE_ANEW):
            rows = own.new_empty(len(some), self.logits.shape[1])
            self.table.rows(names[some], rows)
            normalisers[some] = torch.logsumexp(rows, dim=1)
        return torch.dot(normalisers, counts.to(normalisers.dtype)) - self.dot


def _right_rows(logits: Tensor, index: Tensor, true: Tensor) -> Tensor:
    """Tells which rows [c] of logits [c, C] are highest at their label [c, 1]; of equals the first one counts."""
    # The highest of the others, with which no second look tells a tie from a single highest.
    others = logits.scatter_(1, index, -torch.inf).amax(dim=1, keepdim=True)
    logits.scatter_(1, index, true)
    right = (true >= others).squeeze(1)
    tied = (true == others).squeeze(1)
    if bool(tied.any()):
        rows = tied.nonzero().squeeze(1)
        right[rows] = logits[rows].argmax(dim=1) == index[rows, 0]
    return right
