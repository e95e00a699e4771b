"""The rows of a step that count, selected and counted beforehand; and which passes over them are learned from."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from labelembed import whole_batch


def counted_rows(
    hidden: Tensor, labels: Tensor, *, hidden_size: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Returns the rows that count, hidden [n, H] and labels [n], from [N, H] or [B, T, H].

    Rows are selected rather than masked, so that nothing of an ignored row, were it NaN, reaches a term.

    Raises:
        ValueError: The shapes do not fit; the message has both.
    """
    if hidden.ndim < 2 or hidden.shape[-1] != hidden_size:
        raise ValueError(
            f"`hidden` must be [N, {hidden_size}] or [B, T, {hidden_size}], got {list(hidden.shape)} "
            f"with labels {list(labels.shape)}"
        )
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(
            f"`labels` must be {list(hidden.shape[:-1])} for hidden rows {list(hidden.shape)}, got {list(labels.shape)}"
        )
    if hidden.ndim != 2:
        hidden, labels = hidden.flatten(0, -2), labels.flatten()
    if ignore_index is not None:
        counts = labels != ignore_index
        if not bool(counts.all()):
            return hidden[counts], labels[counts]
    return hidden, labels


def row_counts(labels: Iterable[Tensor], *, ignore_index: int | None) -> list[int]:
    """Returns how many rows count in each micro-batch; a GPU is waited for once."""
    if ignore_index is None:
        return [each.numel() for each in labels]
    counts = [(each != ignore_index).sum() for each in labels]
    return [int(count) for count in torch.stack(counts).tolist()] if counts else []


def is_differentiated(name: str) -> bool:
    """Tells whether a forward pass is one that gradients are wanted of, so that what is remembered moves with it.

    Args:
        name: Of the objective, for the message.

    Raises:
        RuntimeError: It is the repetition by activation checkpointing. State would move twice, and the gradient would
            be that of another state than the loss.
    """
    if torch.is_grad_enabled() and whole_batch.in_backward_pass():
        raise RuntimeError(
            f"activation checkpointing computes {name} a second time, and what it remembers would move twice in a "
            "step; leave the objective out of the function that is checkpointed (the encoder may be in it)"
        )
    return torch.is_grad_enabled()
