"""Rows of a sparse matrix, made dense a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from labelembed.data import Batch, Split


class SparseMatrixRows:
    """Rows of a CSR matrix with labels, in the place of a `Split`.

    Args:
        matrix: [N, F] in CSR form.
        labels: [N], int64.
    """

    def __init__(self, matrix: Any, labels: Tensor) -> None:
        self.matrix = matrix
        self.labels = labels

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def batches(self, batch_size: int, *, order: Tensor | None = None) -> Iterator[Batch]:
        """Gives the batches of one pass; see `Split.batches`."""
        rows = torch.arange(len(self)) if order is None else order
        for some in torch.split(rows, batch_size):
            dense = self.matrix[some.numpy()].toarray().astype(np.float32, copy=False)
            yield Batch(torch.from_numpy(dense), self.labels[some], some)


MatrixRows = Split | SparseMatrixRows


def rows_of(inputs: Any, labels: Any) -> MatrixRows:
    """Returns the rows of an array [N, ...] or a CSR matrix [N, F]; `labels` [N] may be None where there are none."""
    numbers = np.zeros(inputs.shape[0]) if labels is None else labels
    known = torch.from_numpy(np.ascontiguousarray(numbers, dtype=np.int64))
    if sparse.issparse(inputs):
        return SparseMatrixRows(inputs, known)
    # A copy where the array cannot be written to, as joblib maps it for its workers: torch warns of those.
    array = np.ascontiguousarray(inputs, dtype=np.float32)
    return Split(torch.from_numpy(array if array.flags.writeable else array.copy()), known)
