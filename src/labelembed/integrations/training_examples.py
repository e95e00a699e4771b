"""Every training example once, in evaluation mode, for objectives that look at them after an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model in evaluation mode for a block, and then each of its modules back in the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


@torch.no_grad()
def training_examples(
    model: nn.Module, loader: Any, read: Callable[[Any], tuple[Tensor, Tensor, Tensor | None]], *, batch_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yields hidden states, labels and indices, as `read` finds them, of a trainer's whole data set, batch by batch.

    The trainer's own loader is not iterated: that would change the order of the next epochs. Every process sees all.
    """
    in_order: DataLoader[Any] = DataLoader(
        loader.dataset, batch_size=batch_size, collate_fn=loader.collate_fn, generator=torch.Generator()
    )
    with evaluation_mode(model):
        for batch in in_order:
            yield read(batch)
