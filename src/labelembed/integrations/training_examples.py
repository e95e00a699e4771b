"""Every training example once, through a loader of its own, for objectives that need it after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

#: From a batch to hidden states [N, H], labels [N] and indices [N] or None.
ReadBatch = Callable[[Any], tuple[Tensor, Tensor, Tensor | None]]


@torch.no_grad()
def training_examples(
    model: nn.Module, batches: Any, read: ReadBatch, *, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yields the hidden states, labels and indices of a loader's whole data set, in evaluation mode.

    No random state moves: the trainer's own loader is not gone through, for that would move its sampler, and by that
    the order of the next epochs. Every process sees all examples, as the objectives want it.

    Args:
        model: Its mode is put back.
        batches: The trainer's loader, whose data set and collator are taken.
        read: Makes hidden states of a batch.
        batch_size: Examples at once.
    """
    in_order: DataLoader[Any] = DataLoader(
        batches.dataset, batch_size=batch_size, collate_fn=batches.collate_fn, generator=torch.Generator()
    )
    was_training = model.training
    model.eval()
    try:
        for batch in in_order:
            yield read(batch)
    finally:
        model.train(was_training)
