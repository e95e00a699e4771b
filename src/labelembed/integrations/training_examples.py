"""Every training example once, through a loader of its own, for objectives that look at them after an epoch."""

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
    model: nn.Module, loader: Any, read: ReadBatch, *, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yields what `read` makes of each batch of a trainer's whole data set, with the model in evaluation mode.

    The trainer's own loader is not iterated: that would change the order of the next epochs. Every process sees all.
    """
    in_order: DataLoader[Any] = DataLoader(
        loader.dataset, batch_size=batch_size, collate_fn=loader.collate_fn, generator=torch.Generator()
    )
    was_training = model.training
    model.eval()
    try:
        for batch in in_order:
            yield read(batch)
    finally:
        model.train(was_training)
