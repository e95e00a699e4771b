"""What the fused label-embedding head sweeps over: rows dealt to chunks, and the label embedding for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from labelembed.heads import fused_triton_launch as launch
from labelembed.heads.embedding_tables import FullTable
from labelembed.heads.fused_triton_kernels import MOST_TILE_ROWS
from labelembed.heads.fused_triton_linear import add_product, chunk_size
from labelembed.heads.label_groups import rows_by_label


class Chunk(NamedTuple):
    """Rows ``begin..end`` of the order: their numbers, labels and pieces, and the pieces' labels; [c], [c], [u]."""

    begin: int
    end: int
    rows: Tensor
    labels: Tensor
    piece_of_row: Tensor
    pieces: launch.Pieces
    names: Tensor


class Plan:
    """How the rows are dealt to chunks; looked at once, for the GPU has to be waited for."""

    def __init__(self, labels: Tensor, num_labels: int, chunk_rows: int | None) -> None:
        self.order, self.distinct, counts = rows_by_label(labels)
        self.labels = labels[self.order]
        self.group = torch.repeat_interleave(counts, output_size=len(labels))
        self.ends = counts.cumsum(0)
        self.starts = self.ends - counts
        count = len(labels)
        self.size = chunk_size(count, num_labels, chunk_rows)
        begins = list(range(0, count, self.size))
        self.edges = [(begin, min(begin + self.size, count)) for begin in begins]
        at = torch.tensor([*begins, *(end - 1 for _, end in self.edges)], dtype=torch.int64).to(labels.device)
        groups = self.group[at].tolist()
        self.groups = list(zip(groups[: len(begins)], groups[len(begins) :], strict=True))

    def pieces(self) -> int:
        """Returns how many pieces there are in all chunks."""
        return sum(last + 1 - first for first, last in self.groups)

    def __iter__(self) -> Iterator[Chunk]:
        for (begin, end), (first, last) in zip(self.edges, self.groups, strict=True):
            held = slice(first, last + 1)
            starts, ends = ((edge[held] - begin).clamp_(0, end - begin) for edge in (self.starts, self.ends))
            each = (end - begin) // (last + 1 - first)  # rows of a label: as many are looked at in one go
            tile = min(MOST_TILE_ROWS, 1 << max(0, each.bit_length() - 1))
            pieces = launch.Pieces(starts, ends, tile)
            rows, part = self.order[begin:end], slice(begin, end)
            yield Chunk(begin, end, rows, self.labels[part], self.group[part] - first, pieces, self.distinct[held])


class FullRows:
    """E [C, C], read where it lies; its gradient is added up where it will lie."""

    def __init__(self, table: Tensor, *, like: Tensor, learns: bool, sparse_rows: int | None) -> None:
        self.table = FullTable(table, like=like, learns=learns, sparse_rows=sparse_rows)
        self.like = like

    def targets(self, chunk: Chunk) -> launch.Targets:
        """Returns the rows of the chunk's labels."""
        table = self.table.table
        rows = table if table.stride(-1) == 1 else table.contiguous()
        known = launch.row_statistics(rows, None, like=self.like, sharpness=None, rows=chunk.names)
        if self.table.sparse is None:
            return launch.Targets(rows, chunk.names, known.normaliser, self.table.gradient, adds=True, rectified=False)
        rows = rows[chunk.names].to(self.like.dtype)
        places = torch.arange(len(rows), device=rows.device)
        return launch.Targets(rows, places, known.normaliser, rows, adds=False, rectified=False)

    def fold(self, chunk: Chunk, targets: launch.Targets) -> None:
        """Adds what stands where copies of the rows stood; else the kernel has added it where it belongs."""
        if self.table.sparse is not None:
            self.table.fold(chunk.names, targets.table, targets.table)

    def gradients(self, labels: Tensor, factor: Tensor | float) -> list[Tensor | None]:
        """Returns E's gradient times a factor that nobody knew before the last row, and None."""
        return self.table.gradients(labels, factor, at_once=1024)


class CompressedRows:
    """relu(A B) with A [C, K] and B [K, C]: a chunk's rows are made, and overwritten by their slopes."""

    def __init__(
        self, left: Tensor, right: Tensor, *, dtype: torch.dtype, like: Tensor, learns: tuple[bool, bool]
    ) -> None:
        self.given, self.like = (left, right), like
        self.left, self.right = left.to(dtype), right.to(dtype)
        self.d_left = torch.zeros_like(left, dtype=like.dtype) if learns[0] else None
        self.d_right = torch.zeros_like(right, dtype=like.dtype) if learns[1] else None

    def targets(self, chunk: Chunk) -> launch.Targets:
        """Returns the rows of the chunk's labels."""
        rows = torch.mm(self.left[chunk.names], self.right).relu_()
        places = torch.arange(len(rows), device=rows.device)
        known = launch.row_statistics(rows, None, like=self.like, sharpness=None)
        learns = self.d_left is not None or self.d_right is not None
        slopes = rows if learns else None
        return launch.Targets(rows, places, known.normaliser, slopes, adds=False, rectified=True)

    def fold(self, chunk: Chunk, targets: launch.Targets) -> None:
        """Adds the slopes that stand where the rows stood."""
        if self.d_left is not None:
            self.d_left.index_add_(0, chunk.names, (targets.table @ self.right.T).to(self.d_left.dtype))
        if self.d_right is not None:
            add_product(self.d_right, self.left[chunk.names].T, targets.table, factor=1.0)

    def gradients(self, labels: Tensor, factor: Tensor | float) -> list[Tensor | None]:
        """Returns the gradients of A and B times a factor that nobody knew before the last row."""
        found = zip((self.d_left, self.d_right), self.given, strict=True)
        return [None if grad is None else grad.mul_(factor).to(value.dtype) for grad, value in found]
