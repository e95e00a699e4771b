"""One pass over the rows of all processes with the labels of one of them; see `heads.vocabulary_parallel`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.heads.chunks import BLOCK_ROWS, EvenShare, LinearChunks, scratch
from labelembed.heads.embedding_tables import CompressedTable
from labelembed.heads.label_groups import Block, LabelGroups, products_sum
from labelembed.heads.label_shards import LabelShards, added, stacked
from labelembed.heads.terms import HeadSettings, HeadTerms


class _Facts(NamedTuple):
    """What is known of a chunk's rows [c], and of its labels [u], once all processes have said theirs."""

    first: Tensor
    """Log of the normaliser of z1, [c]."""
    true: Tensor
    """z1 of the true label, [c]."""
    second: Tensor | None
    """Log of the normaliser of z2, [c]."""
    second_true: Tensor | None
    """z2 of the true label, [c]."""
    embedded: Tensor | None
    """Log of the normaliser of e, [u]."""
    right: Tensor | None
    """Rows of the chunk that E learns from, [r]."""
    softened: Tensor | None
    """Log of the normaliser of z2 / temperature of those, [r]."""


class ShardSweep:
    """The sums of the terms, and the gradients as they add up.

    Args:
        rows: [N, H], hidden rows of all processes.
        labels: [N], their labels.
        settings: Weights and constants.
        groups: The order to take them in, the same in every process.
        shards: Which labels are this process'.
    """

    def __init__(
        self, rows: Tensor, labels: Tensor, settings: HeadSettings, groups: LabelGroups, shards: LabelShards
    ) -> None:
        self.settings, self.groups, self.shards = settings, groups, shards
        self.rows = rows[groups.order]
        self.labels = labels[groups.order]
        self.owners = shards.owners(self.labels)

    def begin(
        self,
        first: LinearChunks,
        second: LinearChunks | None,
        table: CompressedTable | None,
        *,
        like: Tensor,
        own_rows: int,
        needs: tuple[bool, bool, bool],
    ) -> None:
        """Sets all sums to 0.

        Args:
            first: This process' labels of o1.
            second: And of o2; None where there is none.
            table: A's rows of the labels of `groups`, and B's columns of this process' labels; None: no target of E.
            like: Of the type to sum in.
            own_rows: How many of the rows are this process' own.
            needs: Whether gradients of the rows, of `first` and of `second` are wanted.
        """
        n, count = len(self.labels), self.shards.count
        self.first, self.second, self.table, self.needs = first, second, table, needs
        self.learns = table is not None and (second is not None or self.settings.shared)
        self.d_hidden = like.new_empty(self.rows.shape) if needs[0] else None
        # Of all labels: log of each row's normaliser, its true logit, log p2 of the true label.
        self.normaliser, self.true, self.log_second = (like.new_zeros(n) for _ in range(3))
        self.taught_normalisers = like.new_zeros(())
        # Of this process' labels alone: soft . z1, and what the rows that are right teach . e.
        self.dot, self.taught_dot = like.new_zeros(()), like.new_zeros(())
        self.right = torch.zeros((), dtype=torch.int64, device=like.device)
        # The whole step's mean: not this process' share of it.
        processes = self.shards.processes
        self.own_rows = own_rows
        mean = self.settings.row_factor(own_rows, like=like)
        self.row_factor = float(mean) / processes
        self.hinge_factor = float(self.settings.hinge_factor(mean)) / processes
        weights = self.settings.output_weight, float(self.settings.target_weight), self.settings.uniform_weight
        self.weight_sum = sum(weights)
        self.output_share, self.target_share = (part / (self.weight_sum or 1.0) for part in weights[:2])
        most = self.groups.most_rows()
        self.first_logits = scratch("first", most, count, like=like)
        self.second_logits = self.first_logits if second is None else scratch("second", most, count, like=like)
        block = min(most, BLOCK_ROWS)
        self.work = scratch("work", block, count, like=like)
        if table is not None:
            labels = max((_labels_of(blocks)[1] - _labels_of(blocks)[0] for blocks in self.groups.chunks), default=0)
            self.embedded = scratch("embedded of a chunk", labels, count, like=like)
            self.taught, self.soft = (scratch(name, block, count, like=like) for name in ("taught", "soft"))

    def chunk(self, blocks: list[Block]) -> None:
        """Takes in the rows of some blocks."""
        begin, end = blocks[0].begin, blocks[-1].end
        rows = self.rows[begin:end]
        first = self.first.logits(rows, out=self.first_logits[: end - begin])
        second = first
        if self.second is not None:
            second = self.second.logits(rows, out=self.second_logits[: end - begin])
        lowest, beyond = _labels_of(blocks)
        if self.table is not None:
            names = torch.arange(lowest, beyond, device=rows.device)
            self.table.rows(names, self.embedded[: beyond - lowest])
        facts = self._facts(blocks, first, second)
        self.normaliser[begin:end], self.true[begin:end] = facts.first, facts.true
        if facts.second is not None and facts.second_true is not None:
            self.log_second[begin:end] = facts.second_true - facts.second
        mine, places = self.shards.own(self.labels[begin:end])
        for block in blocks:
            part = slice(block.begin - begin, block.end - begin)
            if self.table is not None:
                self._soft_block(block, lowest, facts)
                if self.learns:
                    self._teach(block, begin, lowest, second[part], facts)
                by_piece = first[part].view(block.pieces, block.size, -1)
                self.dot += products_sum(by_piece, self.soft[: block.pieces])
            if self.second is not None and self.needs[2]:
                assert facts.second is not None
                second[part].sub_(facts.second[part, None]).exp_()
            if self.needs[0] or self.needs[1]:
                first[part].sub_(facts.first[part, None]).exp_()
                if self.table is not None and self.target_share:
                    by_piece.sub_(self.soft[: block.pieces, None], alpha=self.target_share)
        if self.needs[0] or self.needs[1]:
            first[mine, places] -= self.output_share
        if self.needs[1]:
            self.first.fold(first, rows, first.new_full((end - begin,), self.weight_sum * self.row_factor))
        if self.d_hidden is not None:
            self.first.back(first, self.d_hidden[begin:end])
        if self.second is not None and self.needs[2]:
            second[mine, places] -= 1.0
            self.second.fold(second, rows, self._second_scale(begin, end))

    def _facts(self, blocks: list[Block], first: Tensor, second: Tensor) -> _Facts:
        """Asks all processes about a chunk whose logits [c, C / processes] are as they were computed."""
        begin, end = blocks[0].begin, blocks[-1].end
        mine, places = self.shards.own(self.labels[begin:end])
        said = [*self._of_logits(first, mine, places, hits=self.learns and self.second is None)]
        if self.second is not None:
            said += self._of_logits(second, mine, places, hits=True)
        lowest, beyond = _labels_of(blocks)
        if self.table is not None:
            embedded = self.embedded[: beyond - lowest]
            said.append(self._log_sums(embedded, embedded.amax(dim=1)))
        sizes = [len(values) for values in said]
        heard = list(torch.split(stacked(torch.cat(said)), sizes, dim=1))
        logs = heard[-1].logsumexp(dim=0) if self.table is not None else None
        kinds = [(sums.logsumexp(dim=0), true.sum(dim=0), top, hit) for sums, true, top, hit in _by_four(heard)]
        right = softened = None
        if self.learns:
            _, _, top, hit = kinds[-1]
            # Of equals the first label is the highest: the first process of equals, and in it what it says itself.
            is_right = (top.argmax(dim=0) == self.owners[begin:end]) & hit.any(dim=0)
            right = is_right.nonzero().squeeze(1)
            softened = self._softened_sums(second, right)
        second_kind = kinds[1] if self.second is not None else (None, None)
        return _Facts(kinds[0][0], kinds[0][1], second_kind[0], second_kind[1], logs, right, softened)

    def _of_logits(self, logits: Tensor, mine: Tensor, places: Tensor, *, hits: bool) -> list[Tensor]:
        """Returns of each row [c]: log of the sum of exponentials, true logit (else 0), highest, whether it is true."""
        true = logits.new_zeros(len(logits))
        hit = torch.zeros_like(true)
        own = logits[mine, places]
        true[mine] = own
        if not hits:
            top = logits.amax(dim=1)
            return [self._log_sums(logits, top), true, top, hit]
        # The highest of the others, with which no second look tells a tie from a single highest.
        logits[mine, places] = -torch.inf
        top = logits.amax(dim=1)
        logits[mine, places] = own
        others = top[mine]
        top[mine] = torch.maximum(others, own)
        is_top = own >= others
        tied = (own == others).nonzero().squeeze(1)
        if len(tied):
            is_top[tied] = logits[mine[tied]].argmax(dim=1) == places[tied]
        hit[mine] = is_top.to(hit.dtype)
        return [self._log_sums(logits, top), true, top, hit]

    def _log_sums(self, values: Tensor, top: Tensor) -> Tensor:
        """Returns the log of the sum of exponentials of rows [c, C / processes] whose highest is known."""
        found = torch.empty_like(top)
        for begin in range(0, len(values), max(1, len(self.work))):
            some = values[begin : begin + len(self.work)]
            soft = torch.softmax(some, dim=1, out=self.work[: len(some)])
            found[begin : begin + len(some)] = top[begin : begin + len(some)] - soft.amax(dim=1).log()
        return found

    def _softened(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns z2 / temperature of some rows of the logits, in the memory for work."""
        some = torch.index_select(logits, 0, rows, out=self.work[: len(rows)])
        return some.mul_(1 / self.settings.temperature)

    def _softened_sums(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Returns the log of the sum of exponentials of ``z2 / temperature`` over all labels, [r]."""
        found = logits.new_empty(len(rows))
        if not len(rows):
            return found
        for begin in range(0, len(rows), len(self.work)):
            some = self._softened(logits, rows[begin : begin + len(self.work)])
            top = some.amax(dim=1)
            soft = torch.softmax(some, dim=1, out=some)
            found[begin : begin + len(some)] = top - soft.amax(dim=1).log()
        return stacked(found).logsumexp(dim=0)

    def _soft_block(self, block: Block, lowest: int, facts: _Facts) -> None:
        """Writes softmax(e) of a block's labels to `soft`."""
        assert facts.embedded is not None
        labels = slice(block.label - lowest, block.label - lowest + block.pieces)
        soft = self.soft[: block.pieces]
        torch.sub(self.embedded[labels], facts.embedded[labels, None], out=soft).exp_()

    def _teach(self, block: Block, begin: int, lowest: int, logits: Tensor, facts: _Facts) -> None:
        """Adds what a block's rows that are right teach their labels' rows of E."""
        assert facts.right is not None
        assert facts.softened is not None
        assert facts.embedded is not None
        assert self.table is not None
        here = (facts.right >= block.begin - begin) & (facts.right < block.end - begin)
        rows, sums = facts.right[here] - (block.begin - begin), facts.softened[here]
        if not len(rows):
            return
        # Each right row is counted by the process that has its label: so all of them are counted once.
        self.right += (self.owners[block.begin : block.end][rows] == self.shards.process).sum()
        piece = rows // block.size
        names = torch.arange(block.label, block.label + block.pieces, device=rows.device)
        embedded = self.embedded[block.label - lowest : block.label - lowest + block.pieces]
        counts = torch.bincount(piece, minlength=block.pieces).to(embedded.dtype)
        taught = self.taught[: block.pieces]
        softened = self._softened(logits, rows).sub_(sums[:, None]).exp_()  # eq. 10
        taught.zero_().index_add_(0, piece, softened)
        # eq. 11: CE(t, e) = logsumexp(e) - t . e, added up over the rows of each label.
        self.taught_dot += torch.dot(taught.view(-1), embedded.view(-1))
        logs = facts.embedded[block.label - lowest : block.label - lowest + block.pieces]
        self.taught_normalisers += (logs * counts).sum()
        taught.addcmul_(self.soft[: block.pieces], counts[:, None], value=-1)
        self.table.fold(names, taught, embedded)

    def _second_scale(self, begin: int, end: int) -> Tensor:
        """Returns [c], how much the auxiliary term and the hinge count in each row."""
        true = self.log_second[begin:end].exp()
        excess = (true - self.settings.confidence_limit).clamp_min_(0)
        slope = true if self.settings.hinge_norm == 1 else true * excess * 2
        return self.row_factor - (excess > 0) * slope * self.hinge_factor

    def finish(self) -> HeadTerms:
        """Returns the terms, and sees to the parts of the gradients that need all rows."""
        settings, row_factor = self.settings, self.row_factor
        even = EvenShare(self.first, self.rows, num_labels=self.shards.num_labels)
        parts = torch.stack([self.dot, self.taught_dot, even.mean_logits().to(self.dot.dtype)])
        dot, taught_dot, mean_logits = added(parts).unbind()
        normalisers = self.normaliser.sum()
        output = (normalisers - self.true.sum()) * row_factor  # eq. 7
        target = auxiliary = hinge = embedding = output.new_zeros(())
        total = output * settings.output_weight
        if self.table is not None:
            target = (normalisers - dot) * row_factor  # eq. 13
            total = total + target * float(settings.target_weight)
        if self.d_hidden is not None:
            self.d_hidden.mul_(self.weight_sum * row_factor)
        uniform = (normalisers - mean_logits) * row_factor
        if settings.uniform_weight > 0:
            total = total + uniform * settings.uniform_weight
            even.fold(settings.uniform_weight * row_factor, self.d_hidden)
        elif self.table is not None:
            uniform = output.new_zeros(())
        if self.second is not None:
            auxiliary = -self.log_second.sum() * row_factor  # eq. 8
            excess = (self.log_second.exp() - settings.confidence_limit).clamp_min_(0)
            hinge = (excess if settings.hinge_norm == 1 else excess.square()).sum() * self.hinge_factor  # eq. 12
        self.right_factor: Tensor | float = 0.0
        if self.learns:
            shared = settings.mean_over_right(self.taught_normalisers - taught_dot, self.right, rows=self.own_rows)
            embedding, self.right_factor = shared[0] / self.shards.processes, shared[1] / self.shards.processes
        return HeadTerms(total + auxiliary + hinge + embedding, output, target, auxiliary, hinge, embedding, uniform)


def _labels_of(blocks: list[Block]) -> tuple[int, int]:
    """Returns the first of the labels of a chunk, and the one after its last, as positions in the groups' labels."""
    return blocks[0].label, blocks[-1].label + blocks[-1].pieces


def _by_four(values: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    return [(values[at], values[at + 1], values[at + 2], values[at + 3]) for at in range(0, len(values) - 3, 4)]
