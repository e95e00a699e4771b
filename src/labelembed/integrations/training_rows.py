"""Every training row once, through a loader of its own, for objectives that ask to see them after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from labelembed.objectives import Objective

#: From a batch to hidden rows [N, H], labels [N] and row numbers [N] or None.
ReadBatch = Callable[[Any], tuple[Tensor, Tensor, Tensor | None]]


@torch.no_grad()
def show_training_rows(
    model: nn.Module, objective: Objective, batches: Any, read: ReadBatch, *, batch_size: int
) -> None:
    """Shows an objective every row of a data loader once, in evaluation mode; no random state moves.

    Every process sees all of them, as the objectives want it. The trainer's own loader is not gone through: that would
    move its sampler, and by that the order of the next epochs.

    Args:
        model: What is asked; its mode is put back.
        objective: Its objective.
        batches: The trainer's loader, whose data set and collator are taken.
        read: Makes hidden rows of a batch.
        batch_size: Rows at once.
    """
    in_order: DataLoader[Any] = DataLoader(
        batches.dataset, batch_size=batch_size, collate_fn=batches.collate_fn, generator=torch.Generator()
    )
    was_training = model.training
    model.eval()
    objective.begin_pass()
    for batch in in_order:
        hidden, labels, rows = read(batch)
        objective.observe(hidden, labels, torch.full_like(labels, -1) if rows is None else rows)
    objective.end_pass()
    model.train(was_training)
