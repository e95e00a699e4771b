"""The label embedding over blocks of labels: rows of E = [C, C], or of relu(A B), and their gradients adding up."""

from __future__ import annotations

import torch
from torch import Tensor


class FullTable:
    """E [C, C] itself.

    Args:
        table: E.
        like: A tensor of the type to compute in.
        learns: Whether the gradient is wanted.
        sparse_rows: How many rows `fold` is called with in all, at most, where a sparse gradient is wanted that holds
            no others; None: it is dense.
    """

    def __init__(self, table: Tensor, *, like: Tensor, learns: bool, sparse_rows: int | None = None) -> None:
        self.table = table
        self.dtype = like.dtype
        self.gradient = self.sparse = None
        if learns and sparse_rows is not None:
            self.sparse = torch.empty(sparse_rows, table.shape[1], dtype=like.dtype, device=table.device)
        elif learns:
            # Dense, as most optimisers want it: its zeros alone are a pass over C * C numbers in each step.
            self.gradient = torch.zeros(table.shape, dtype=like.dtype, device=table.device)
        self.names: list[Tensor] = []
        self.folded = 0

    def rows(self, labels: Tensor, out: Tensor) -> None:
        """Writes the rows [u, C] of labels [u] to `out`."""
        if self.table.dtype == self.dtype:
            torch.index_select(self.table, 0, labels, out=out)
        else:
            out.copy_(self.table[labels])

    def fold(self, labels: Tensor, slopes: Tensor, rows: Tensor) -> None:
        """Adds the slopes [u, C] at the rows of labels [u]; a label may stand there more than once."""
        if self.sparse is not None:
            self.sparse[self.folded : self.folded + len(labels)] = slopes
            self.names.append(labels)
            self.folded += len(labels)
        elif self.gradient is not None:
            self.gradient.index_add_(0, labels, slopes)

    def gradients(self, labels: Tensor, factor: Tensor | float, *, at_once: int = 128) -> list[Tensor | None]:
        """Returns the gradient times a factor that nobody knew before the last row.

        Args:
            labels: [U], all labels that `fold` was called with: other rows are 0.
            factor: What the sum of the slopes is multiplied with.
            at_once: How many rows are copied at a time.
        """
        if self.sparse is not None:
            names = torch.cat(self.names) if self.names else labels[:0]
            # What is beyond was never written to, and costs no memory where the system deals it out page by page.
            values = self.sparse[: self.folded].mul_(factor).to(self.table.dtype)
            size = self.table.shape
            return [torch.sparse_coo_tensor(names[None], values, size, check_invariants=False), None]
        if self.gradient is None:
            return [None, None]
        for begin in range(0, len(labels), at_once):
            some = labels[begin : begin + at_once]
            self.gradient.index_copy_(0, some, self.gradient.index_select(0, some).mul_(factor))
        return [self.gradient.to(self.table.dtype), None]


class CompressedTable:
    """relu(A B) with A [C, K] and B [K, C] (Sun et al. 2017, eq. 16).

    Args:
        left: A.
        right: B.
        like: A tensor of the type to compute in.
        learns: Whether gradients of A and of B are wanted.
    """

    def __init__(self, left: Tensor, right: Tensor, *, like: Tensor, learns: tuple[bool, bool]) -> None:
        self.given = left, right
        self.left, self.right = left.to(like.dtype), right.to(like.dtype)
        self.d_left = torch.zeros_like(self.left) if learns[0] else None
        self.d_right = torch.zeros_like(self.right) if learns[1] else None

    def rows(self, labels: Tensor, out: Tensor) -> None:
        """Writes the rows [u, C] of labels [u] to `out`."""
        torch.mm(self.left[labels], self.right, out=out).relu_()

    def fold(self, labels: Tensor, slopes: Tensor, rows: Tensor) -> None:
        """Adds the slopes [u, C] at the rows of labels [u], and overwrites the slopes.

        Args:
            labels: [u], where a label may stand more than once.
            slopes: [u, C].
            rows: [u, C], what `rows` wrote.
        """
        # No gradient where the relu holds 0; in one pass, over memory that is there.
        torch.ops.aten.threshold_backward.grad_input(slopes, rows, 0, grad_input=slopes)
        if self.d_left is not None:
            self.d_left.index_add_(0, labels, slopes @ self.right.T)
        if self.d_right is not None:
            self.d_right.addmm_(self.left[labels].T, slopes)

    def gradients(self, labels: Tensor, factor: Tensor | float) -> list[Tensor | None]:
        """Returns the gradients of A and B times a factor that nobody knew before the last row."""
        found = zip((self.d_left, self.d_right), self.given, strict=True)
        return [None if grad is None else grad.mul_(factor).to(value.dtype) for grad, value in found]


def table_of(
    table: Tensor,
    columns: Tensor | None,
    *,
    like: Tensor,
    learns: tuple[bool, bool],
    sparse_rows: int | None = None,
) -> FullTable | CompressedTable:
    """Returns the table of E, or of A and B."""
    if columns is None:
        return FullTable(table, like=like, learns=learns[0], sparse_rows=sparse_rows)
    return CompressedTable(table, columns, like=like, learns=learns)


def embedding_rows(
    embedding: Tensor | tuple[Tensor, Tensor], labels: Tensor, *, sparse_gradients: bool = False
) -> Tensor:
    """Returns e [n, C] for labels [n], with gradients, sparse ones if wanted of E; of E, or of A and B."""
    if isinstance(embedding, tuple):
        left, right = embedding
        return torch.relu(torch.nn.functional.embedding(labels, left) @ right)
    return torch.nn.functional.embedding(labels, embedding, sparse=sparse_gradients)
