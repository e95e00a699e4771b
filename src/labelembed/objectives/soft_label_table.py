"""A table of distributions over the labels, one a training row, kept whole or by the largest entries."""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from labelembed.losses import chunk_size
from labelembed.losses.soft_targets import SparseRows, label_type, sparse

# Up to so many labels a row is kept whole; above, by its largest entries.
WHOLE_ROW_LABELS = 256
SPARSE_ENTRIES = 32


def kept_entries(num_labels: int, top_k: int | None = None) -> int:
    """Returns how many entries a row has: `top_k`, or None: all up to 256 labels, 32 above."""
    if top_k is None:
        top_k = num_labels if num_labels <= WHOLE_ROW_LABELS else SPARSE_ENTRIES
    return min(top_k, num_labels)


def bytes_needed(num_rows: int, num_labels: int, *, top_k: int | None = None) -> int:
    """Returns how many bytes a table takes: 1.2 million rows of 1,000 labels 154 MB with 32 entries, 2.4 GB whole."""
    width = kept_entries(num_labels, top_k)
    of_labels = label_type(num_labels).itemsize if width < num_labels else 0
    return num_rows * width * (torch.float16.itemsize + of_labels)


class SoftLabelTable(NamedTuple):
    """Distributions of R training rows; what the entries of a row leave of 1 is spread evenly over the other labels.

    Attributes:
        values: [R, k], float16; may be a file mapped into memory.
        labels: [R, k], of which labels they are, int16 or int32; None: k = C, all in order.
    """

    values: Tensor
    labels: Tensor | None

    @classmethod
    def of_logits(cls, logits: Tensor, *, temperature: float, top_k: int) -> Self:
        """Returns the table of ``softmax(logits / temperature)`` of logits [R, C], on their device."""
        num_rows, num_labels = logits.shape
        table = cls.even(num_rows, num_labels, top_k=top_k, device=logits.device)
        table = cls(table.values.clone(), None if table.labels is None else table.labels.clone())
        for rows in torch.split(torch.arange(num_rows, device=logits.device), chunk_size(num_labels)):
            table.put(rows, torch.softmax(logits[rows].float() / temperature, dim=1))
        return table

    @classmethod
    def even(
        cls, num_rows: int, num_labels: int, *, top_k: int | None = None, device: torch.device | None = None
    ) -> Self:
        """Returns a table of even distributions that takes the memory of one row; nothing can be put into it."""
        width = kept_entries(num_labels, top_k)
        values = torch.full((1, width), 1 / num_labels, dtype=torch.float16, device=device).expand(num_rows, -1)
        if width == num_labels:
            return cls(values, None)
        labels = torch.arange(width, dtype=label_type(num_labels), device=device)
        return cls(values, labels.expand(num_rows, -1))

    def rows(self, rows: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor | SparseRows:
        """Returns the distributions of rows [n] on the device of `rows`: [n, C], or by the largest entries."""
        at = rows.to(self.values.device)
        found = self.values[at].to(rows.device, dtype)
        return found if self.labels is None else SparseRows(found, self.labels[at].to(rows.device).long())

    @torch.no_grad()
    def put(self, rows: Tensor, probabilities: Tensor) -> None:
        """Writes the distributions [n, C] of rows [n]."""
        rows = rows.to(self.values.device)
        if self.labels is not None:
            kept = sparse(probabilities, self.labels.shape[1])
            self.labels.index_copy_(0, rows, kept.labels.to(self.labels))
            probabilities = kept.values
        self.values.index_copy_(0, rows, probabilities.to(self.values))
