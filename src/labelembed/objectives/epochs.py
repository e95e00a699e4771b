"""Objectives that would silently train something else in a loop that never tells them of epochs."""

from __future__ import annotations

import torch
from torch import nn


def require_epoch(objective: nn.Module, epoch: int | None, *, otherwise: str) -> None:
    """Raises RuntimeError where an objective is trained and no epoch was begun; without gradients it may be used.

    Args:
        objective: In training mode, or not.
        epoch: The last that `begin_epoch` was called with; None: never.
        otherwise: What it would train in that case.
    """
    if epoch is None and objective.training and torch.is_grad_enabled():
        raise RuntimeError(
            f"{type(objective).__name__} was never told of an epoch, and would train {otherwise}: call "
            "objective.begin_epoch(epoch, epochs) before each epoch and objective.end_epoch() after it; to evaluate, "
            "call objective.eval() first"
        )
