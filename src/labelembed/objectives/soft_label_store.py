"""One distribution over the labels for every training example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from labelembed.losses.soft_targets import SparseRows, label_type
from labelembed.objectives.soft_label_table import SoftLabelTable, kept_entries


class SoftLabelStore(nn.Module):
    """Distributions of R training rows over C labels, float16; whole, or the largest entries and the rest even.

    Args:
        num_rows: R.
        num_labels: C.
        top_k: Entries kept a row; None: all up to 256 labels, 32 above.
    """

    values: Tensor
    labels: Tensor
    generation: Tensor

    def __init__(self, num_rows: int, num_labels: int, *, top_k: int | None = None) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.num_labels = num_labels
        self.width = kept_entries(num_labels, top_k)
        self.sparse = self.width < num_labels
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        # The same number: reading it needs no wait for a GPU.
        self.generations = 0
        self.register_buffer("values", torch.zeros(num_rows, self.width, dtype=torch.float16))
        if self.sparse:
            self.register_buffer("labels", torch.zeros(num_rows, self.width, dtype=label_type(num_labels)))

    @property
    def filled(self) -> bool:
        """Tells whether every row has been stored."""
        return self.generations > 0

    def rows(self, rows: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor | SparseRows:
        """Returns the distributions of rows [n]: [n, C], or by the largest entries."""
        return self._table().rows(rows, dtype=dtype)

    @torch.no_grad()
    def put(self, rows: Tensor, probabilities: Tensor) -> None:
        """Stores the distributions [n, C] of rows [n]."""
        self._table().put(rows, probabilities)

    def end(self) -> None:
        """Every row has been stored."""
        self.generations += 1
        self.generation.fill_(self.generations)

    def _table(self) -> SoftLabelTable:
        return SoftLabelTable(self.values, self.labels if self.sparse else None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the tables to another device, and leaves them float16 whatever the network becomes."""
        for name, table in self._buffers.items():
            if table is not None:
                self._buffers[name] = fn(table).to(table.dtype)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if self.sparse and self._strangers(self.labels):
            rest[-1].append(f"{prefix}labels: names labels that there are not")  # torch's list of what is wrong
        self.generations = int(self.generation)

    def _strangers(self, labels: Tensor) -> bool:
        """Tells whether any of some labels is none of the C; of a checkpoint nobody knows who has made it."""
        return labels.numel() > 0 and not (int(labels.min()) >= 0 and int(labels.max()) < self.num_labels)
