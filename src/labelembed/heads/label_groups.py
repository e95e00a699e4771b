"""Rows brought into an order in which each label's soft target need be computed once.

Rows of one label stand together, and labels with as many rows stand together. A *block* is then ``pieces`` labels
with ``size`` rows each: its logits [pieces * size, C] seen as [pieces, size, C] meet the labels' own rows
[pieces, 1, C] without a copy for each row. A *chunk* is some blocks: the rows whose logits are held at a time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Block(NamedTuple):
    """Rows ``begin .. begin + pieces * size`` of the order, of the labels ``label .. label + pieces``."""

    begin: int
    pieces: int
    size: int
    label: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.begin + self.pieces * self.size


class LabelGroups(NamedTuple):
    """The order [n] of the rows, their distinct labels [U], and the chunks of blocks that hold all rows once."""

    order: Tensor
    labels: Tensor
    chunks: list[list[Block]]

    def most_rows(self) -> int:
        """Returns the rows of the largest chunk."""
        return max((chunk[-1].end - chunk[0].begin for chunk in self.chunks), default=0)


def rows_by_label(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns an order [n] of rows, label by label and the rare ones first; the labels [U] in it, and their counts."""
    distinct, group, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    by_count = torch.argsort(counts, stable=True)
    place = torch.empty_like(by_count)
    place[by_count] = torch.arange(len(by_count), device=labels.device)
    return torch.argsort(place[group], stable=True), distinct[by_count], counts[by_count]


def label_groups(labels: Tensor, *, chunk_rows: int, block_rows: int) -> LabelGroups:
    """Orders rows by label.

    Args:
        labels: [n] int64.
        chunk_rows: About how many rows a chunk holds; at most `block_rows` more.
        block_rows: How many rows a block holds at most. A label with more has several pieces, each of which
            computes its soft target anew.
    """
    order, distinct, counts = rows_by_label(labels)
    sizes, repeats = torch.unique_consecutive(counts, return_counts=True)

    blocks: list[Block] = []
    begin = label = 0
    for size, repeat in zip(sizes.tolist(), repeats.tolist(), strict=True):
        if size > block_rows:
            for name in range(label, label + repeat):
                for cut in range(0, size, block_rows):
                    blocks.append(Block(begin + cut, 1, min(block_rows, size - cut), name))
                begin += size
        else:
            at_once = block_rows // size
            for first in range(0, repeat, at_once):
                blocks.append(Block(begin, min(at_once, repeat - first), size, label + first))
                begin = blocks[-1].end
        label += repeat
    return LabelGroups(order, distinct, _chunks(blocks, rows=begin, chunk_rows=chunk_rows))


def _chunks(blocks: list[Block], *, rows: int, chunk_rows: int) -> list[list[Block]]:
    """Deals blocks to chunks as equal as may be, for a small last chunk costs nearly as much as a whole one."""
    enough = -(-rows // max(1, -(-rows // chunk_rows)))
    chunks: list[list[Block]] = []
    for block in blocks:
        if chunks and chunks[-1][-1].end - chunks[-1][0].begin < enough:
            chunks[-1].append(block)
        else:
            chunks.append([block])
    return chunks


def products_sum(by_piece: Tensor, soft: Tensor) -> Tensor:
    """Returns the sum of the products of rows [g, k, C] with their labels' [g, C]; of none of them a copy is made."""
    if by_piece.shape[1] == 1:
        return torch.dot(by_piece.view(-1), soft.view(-1))
    if by_piece.device.type == "cpu":  # where a product of matrices by batches costs three of these
        return torch.stack([torch.mv(rows, row).sum() for rows, row in zip(by_piece, soft, strict=True)]).sum()
    return torch.bmm(by_piece, soft[:, :, None]).sum()
