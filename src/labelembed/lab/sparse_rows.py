"""Examples as rows of a sparse matrix: the ids of the features that each example has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True, eq=False)
class SparseRows:
    """The ids of N examples' features, one example after the other, as `torch.nn.EmbeddingBag` reads them.

    They take the memory of the features that there are, however long the longest example is. A whole split and a batch
    are of this one form.

    Args:
        ids: Ids [features of all examples], int32, from 1; 0 is free for padding and for what a network leaves out.
        offsets: Where each example's ids begin, and where the last one's end [N + 1], int64.
        width: Columns of the matrix; ids are smaller.
    """

    ids: Tensor
    offsets: Tensor
    width: int
    dtype = torch.int32

    def __len__(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def shape(self) -> tuple[int, int]:
        """(N, width)."""
        return len(self), self.width

    @property
    def nbytes(self) -> int:
        """The memory that they take."""
        return self.ids.nbytes + self.offsets.nbytes

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SparseRows:
        """Returns them on `device`."""
        ids, offsets = (part.to(device, non_blocking=non_blocking) for part in (self.ids, self.offsets))
        return SparseRows(ids, offsets, self.width)

    def pin_memory(self) -> SparseRows:
        """Returns a copy in pinned memory."""
        return SparseRows(self.ids.pin_memory(), self.offsets.pin_memory(), self.width)

    def __getitem__(self, some: slice) -> SparseRows:
        return self.select(torch.arange(len(self), device=self.ids.device)[some])

    def select(self, indices: Tensor) -> SparseRows:
        """Returns a copy of the examples at these positions [M] (int64), in that order."""
        begins = self.offsets[indices]
        lengths = self.offsets[indices + 1] - begins
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        places = torch.arange(int(offsets[-1]), device=self.ids.device)
        places += (begins - offsets[:-1]).repeat_interleave(lengths, output_size=len(places))
        return SparseRows(self.ids[places], offsets, self.width)

    def tensor_split(self, count: int) -> list[SparseRows]:
        """Returns so many parts, as `torch.tensor_split` of the examples."""
        return [self.select(part) for part in torch.arange(len(self), device=self.ids.device).tensor_split(count)]

    def padded(self) -> Tensor:
        """Returns the ids [N, most features of an example], int32, filled up with 0: what an exported network takes."""
        rows = torch.split(self.ids, self.offsets.diff().tolist())
        return pad_sequence([*rows, self.ids.new_zeros(1)], batch_first=True)[:-1]  # a column at least
