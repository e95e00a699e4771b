"""Examples and the batches cut from them; every batch carries the indices of its examples."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.lab.data import cache
from labelembed.lab.sparse_rows import SparseRows


class Batch(NamedTuple):
    """The examples of one optimiser step, or one process's share of them.

    Attributes:
        inputs: Inputs [B, ...], uint8, int32 (ids of tokens) or float32, or the ids of words, as the split holds them.
        labels: Labels [B], int64.
        indices: Where these examples stand in their split [B], int64; an objective that remembers each training
            example finds its place by them.
    """

    inputs: Tensor | SparseRows
    labels: Tensor
    indices: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Returns this batch on `device`; to a GPU through pinned memory, while the processor goes on."""
        device = torch.device(device)
        is_pinned = device.type == "cuda" and self.labels.device.type == "cpu"

        def moved(part: Any) -> Any:
            return part.pin_memory().to(device, non_blocking=True) if is_pinned else part.to(device)

        return Batch(*map(moved, self))


@dataclass(frozen=True)
class TokenBudget:
    """A batch size in tokens: pairs times the longest sentence of either side, END and padding counted.

    Args:
        tokens: Most tokens of a batch; a single pair that has more is a batch of its own.

    Raises:
        ValueError: `tokens` is not a whole number of at least 1.
    """

    tokens: int

    def __post_init__(self) -> None:
        require_whole("tokens", self.tokens)


@dataclass(frozen=True, eq=False)
class Examples:
    """One part of a data set as a reader found it.

    Args:
        inputs: A tensor [N, ...], or what becomes one later: `Texts`, a `Table`, the `Places` of pictures.
        labels: Labels [N], int64.
    """

    inputs: Any
    labels: Tensor

    def __len__(self) -> int:
        return self.labels.shape[0]

    def select(self, indices: Tensor) -> Self:
        """Returns a copy of the examples at these positions [M] (int64), in that order.

        On the CPU a tensor of more than `cache.MAPPED_ABOVE_BYTES` lies in a nameless file of the cache's folder.
        """
        indices = indices.to(self.labels.device)
        return type(self)(_selected(self.inputs, indices), self.labels.index_select(0, indices))


@dataclass(frozen=True, eq=False)
class Split(Examples):
    """One part of a data set (training, validation or test) as tensors, in memory or in a mapped file.

    Args:
        inputs: Inputs [N, ...], uint8, int32 (ids of tokens) or float32, or the ids of words.
        labels: Labels [N], int64, on the same device.

    Raises:
        TypeError: A dtype is another.
        ValueError: `labels` is not [N], or lies on another device than `inputs`.
    """

    inputs: Tensor | SparseRows

    def __post_init__(self) -> None:
        shapes = f"got shapes {tuple(self.labels.shape)} and {tuple(self.inputs.shape)}"
        if self.inputs.dtype not in (torch.uint8, torch.int32, torch.float32):
            raise TypeError(f"`inputs` must be uint8, int32 or float32, got {self.inputs.dtype}")
        if self.labels.dtype != torch.int64:
            raise TypeError(f"`labels` must be int64, got {self.labels.dtype}")
        if self.inputs.ndim == 0 or self.labels.shape != self.inputs.shape[:1]:
            raise ValueError(f"`labels` must have one entry for each of `inputs`, {shapes}")
        if self.labels.device != self.inputs.device:
            devices = f"{self.labels.device} and {self.inputs.device}"
            raise ValueError(f"`labels` and `inputs` must be on one device, got {devices}")

    @property
    def num_examples(self) -> int:
        """How many labels there are, which objectives that remember examples index."""
        return len(self)

    def to(self, device: torch.device | str) -> Split:
        """Returns this split with its tensors on `device`; tensors that are there already are shared."""
        return Split(self.inputs.to(device), self.labels.to(device))

    def number_of_batches(self, batch_size: int | TokenBudget) -> int:
        """Returns how many batches one pass over all examples has."""
        return -(-len(self) // require_whole("batch_size", batch_size))

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

        With several processes each takes ``[process::processes]`` of every batch, so that together they
        hold exactly the batch that one process would hold. Where the last batch has fewer examples than there are
        processes, some processes get an empty batch for it: every process makes the same number of steps.
        What a batch holds is copied, so it may be changed in place.

        Args:
            batch_size: Examples of one optimiser step, over all processes together; a budget of tokens is refused.
            order: Positions [M] of the examples to visit, int64; without it the examples as they stand. A part
                of them, or one several times, is allowed.
            start: Number of the first batch to return, to go on in the middle of an epoch.
            process: Number of this process, from 0.
            processes: Number of processes that share each batch.

        Raises:
            ValueError: An argument is out of its range; raised by this call, not by the first batch.
        """
        size = require_whole("batch_size", batch_size)
        if order is None:
            indices = torch.arange(len(self), device=self.labels.device)
        else:
            require_order(order, len(self))
            indices = order.to(self.labels.device)
        pieces = torch.split(indices, size) if len(indices) else ()
        require_share(len(pieces), start=start, process=process, processes=processes)
        return map(self._batch, (piece[process::processes] for piece in pieces[start:]))

    def _batch(self, indices: Tensor) -> Batch:
        inputs = self.inputs
        # index_select, since inputs[indices] takes ten times as long for bytes
        chosen = inputs.index_select(0, indices) if isinstance(inputs, Tensor) else inputs.select(indices)
        return Batch(chosen, self.labels.index_select(0, indices), indices.clone())


def _selected(inputs: Any, indices: Tensor) -> Any:
    if not isinstance(inputs, Tensor):
        return inputs.select(indices)
    shape = (len(indices), *inputs.shape[1:])
    if inputs.device.type == "cpu" and math.prod(shape) * inputs.element_size() > cache.MAPPED_ABOVE_BYTES:
        cache.cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache.cache_folder()) as file:
            copy = np.memmap(file, str(inputs.dtype).removeprefix("torch."), "w+", shape=shape)
        return torch.index_select(inputs, 0, indices, out=torch.from_numpy(copy))
    return inputs.index_select(0, indices)


def require_whole(name: str, value: object) -> int:
    """Returns an argument that is a whole number of at least 1; raises ValueError for any other."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"`{name}` must be a whole number >= 1, got {value!r}")


def require_share(batches: int, *, start: int, process: int, processes: int) -> None:
    """Raises ValueError unless an epoch of so many batches can begin there, and be shared so."""
    errors = ArgumentErrors()
    errors.require(0 <= start <= batches, "start", start, f"must be 0 to {batches}, the number of batches")
    errors.require(processes >= 1, "processes", processes, "must be >= 1")
    errors.require(0 <= process < max(processes, 1), "process", process, f"must be 0 to {processes - 1}")
    errors.raise_if_any()


def require_order(order: Tensor, examples: int) -> None:
    """Raises ValueError unless `order` [M] holds positions of so many examples, int64."""
    if order.ndim != 1 or order.dtype != torch.int64:
        raise ValueError(f"`order` must be [M] of int64, got {list(order.shape)} of {order.dtype}")
    # On a GPU a position out of range would end the process, with a message that names nothing.
    if order.numel():
        lowest, highest = (int(end) for end in torch.aminmax(order))
        if lowest < 0 or highest >= examples:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(f"`order` must hold positions of 0 to {examples - 1}, got {wrong}")
