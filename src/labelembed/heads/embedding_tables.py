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
    """

    def __init__(self, table: Tensor, *, like: Tensor, learns: bool) -> None:
        self.table = table
        self.dtype = like.dtype
        # Dense, as an optimiser wants it: its zeros alone are a pass over C * C numbers in each step.
        self.gradient = torch.zeros(table.shape, dtype=like.dtype, device=table.device) if learns else None

    def rows(self, labels: Tensor, out: Tensor) -> None:
        """Writes the rows [u, C] of labels [u] to `out`."""
        if self.table.dtype == self.dtype:
            torch.index_select(self.table, 0, labels, out=out)
        else:
            out.copy_(self.table[labels])

    def fold(self, labels: Tensor, slopes: Tensor, rows: Tensor) -> None:
        """Adds the slopes [u, C] at the rows of labels [u]; a label may stand there more than once."""
        if self.gradient is not None:
            self.gradient.index_add_(0, labels, slopes)

    def gradients(self, labels: Tensor, factor: Tensor | float, *, at_once: int = 128) -> list[Tensor | None]:
        """Returns the gradient times a factor that nobody knew before the last row.

        Args:
            labels: [U], all labels that `fold` was called with: other rows are 0.
            factor: What the sum of the slopes is multiplied with.
            at_once: How many rows are copied at a time.
        """
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
        """Adds the slopes [u, C] at the rows of labels [u]; both are overwritten.

        Args:
            labels: [u], where a label may stand more than once.
            slopes: [u, C].
            rows: [u, C], what `rows` wrote.
        """
        slopes.mul_(rows.sign_())  # no gradient where the relu holds 0
        if self.d_left is not None:
            self.d_left.index_add_(0, labels, slopes @ self.right.T)
        if self.d_right is not None:
            self.d_right.addmm_(self.left[labels].T, slopes)

    def gradients(self, labels: Tensor, factor: Tensor | float) -> list[Tensor | None]:
        """Returns the gradients of A and B times a factor that nobody knew before the last row."""
        found = zip((self.d_left, self.d_right), self.given, strict=True)
        return [None if grad is None else grad.mul_(factor).to(value.dtype) for grad, value in found]


def table_of(
    table: Tensor, columns: Tensor | None, *, like: Tensor, learns: tuple[bool, bool]
) -> FullTable | CompressedTable:
    """Returns the table of E, or of A and B."""
    if columns is None:
        return FullTable(table, like=like, learns=learns[0])
    return CompressedTable(table, columns, like=like, learns=learns)


def embedding_rows(embedding: Tensor | tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
    """Returns e [n, C] for labels [n], with gradients; of a label embedding E, or A and B."""
    if isinstance(embedding, tuple):
        left, right = embedding
        return torch.relu(torch.nn.functional.embedding(labels, left) @ right)
    return torch.nn.functional.embedding(labels, embedding)
