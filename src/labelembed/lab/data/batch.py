"""Examples and the batches cut from them; every batch carries the indices of its examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from labelembed.lab.sparse_rows import SparseRows


class Batch(NamedTuple):
    """The examples of one optimiser step, or one process's share of them.

    Attributes:
        inputs: Inputs [B, ...], uint8, int32 (ids of tokens) or float32, or the ids of words, as the split holds them.
        labels: Labels [B], int64.
        indices: Where these examples stand in their split [B], int64, for objectives that remember each of them.
    """

    inputs: Tensor | SparseRows
    labels: Tensor
    indices: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Returns this batch on `device`; to a GPU through pinned memory, while the processor goes on."""
        is_pinned = torch.device(device).type == "cuda" and self.labels.device.type == "cpu"

        def moved(part: Any) -> Any:
            return part.pin_memory().to(device, non_blocking=True) if is_pinned else part.to(device)

        return Batch(*map(moved, self))


class TokenBudget(NamedTuple):
    """A batch size in tokens: pairs times the longest sentence of either side; a longer pair is alone in its batch."""

    tokens: int


@dataclass(frozen=True, eq=False)
class Examples:
    """One part of a data set: a tensor [N, ...], or what becomes one (texts, a table, pictures), and labels [N]."""

    inputs: Any
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def select(self, indices: Tensor) -> Self:
        """Returns a copy of the examples at these positions [M] (int64), in that order."""
        indices = indices.to(self.labels.device)
        return type(self)(_selected(self.inputs, indices), self.labels.index_select(0, indices))


@dataclass(frozen=True, eq=False)
class Split(Examples):
    """One part of a data set as inputs [N, ...], uint8, int32 (ids of tokens) or float32, and labels [N], int64."""

    inputs: Tensor | SparseRows

    @property
    def num_examples(self) -> int:
        """How many labels there are, which objectives that remember examples index."""
        return len(self)

    def to(self, device: torch.device | str) -> Split:
        """Returns this split with its tensors on `device`; tensors that are there already are shared."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def number_of_batches(self, batch_size: int | TokenBudget) -> int:
        """Returns how many batches one pass over all examples has."""
        assert isinstance(batch_size, int)  # a budget of tokens is for sentences
        return -(-len(self) // batch_size)

    def batches(
        self,
        batch_size: int | TokenBudget,
        *,
        order: Tensor | None = None,
        start: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[Batch]:
        """Returns the batches of one pass; batch b holds the examples ``order[b * batch_size:(b + 1) * batch_size]``.

        `order` are positions [M] of the examples to visit, int64, without it all as they stand; `start` is the number
        of the first batch to return. Each of several processes takes ``[process::processes]`` of every batch, the last
        of which may be empty. What a batch holds is a copy.
        """
        assert isinstance(batch_size, int)
        indices = (torch.arange(len(self)) if order is None else order).to(self.labels.device)
        for piece in torch.split(indices, batch_size)[start:] if len(indices) else ():
            share = piece[process::processes]
            yield Batch(_selected(self.inputs, share), self.labels.index_select(0, share), share.clone())


def _selected(inputs: Any, indices: Tensor) -> Any:
    # index_select, since inputs[indices] takes ten times as long for bytes
    return inputs.index_select(0, indices) if isinstance(inputs, Tensor) else inputs.select(indices)
