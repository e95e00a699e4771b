"""Sums over the whole optimiser step, in however many processes its rows are.

`DistributedDataParallel` averages the gradients of the processes. A mean over the rows of the whole step is
therefore each process' own sum, times the number of processes, over the count of all rows: then the average
is exactly the gradient that one process would have had. Every normaliser of an objective comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """Returns how many processes share the optimiser step."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_factor(local_count: Tensor | int, *, like: Tensor) -> Tensor | float:
    """Returns the factor that turns this process' sum into its share of the mean over the whole step.

    The share is such that the average over the processes is the mean. Where nothing counts in any process
    the factor is finite, so that an empty sum stays 0. No gradient flows.

    Args:
        local_count: How many rows count in this process.
        like: The sum's own terms; the factor is of their type (float32 or float64) and on their device.
    """
    if processes() == 1:
        if isinstance(local_count, int):
            return 1 / max(local_count, 1)
        # The type first: the reciprocal of whole numbers would be float32, whatever the sum is.
        return local_count.detach().to(like.dtype).clamp_min(1).reciprocal()
    count = torch.as_tensor(local_count, dtype=torch.int64, device=like.device).detach().clone()
    dist.all_reduce(count)
    return processes() / count.to(like.dtype).clamp_min(1)


def sum_factor() -> float:
    """Returns the factor that turns this process' sum into its share of the sum over the whole step."""
    return float(processes())


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes; each process' loss sends its gradient to every process' part."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        gradient = grads[0].contiguous().clone()
        dist.all_reduce(gradient)
        return gradient


def total(values: Tensor) -> Tensor:
    """Returns the sum of `values` over the processes, with gradient; in one process `values` itself.

    Args:
        values: Of the same shape in every process.
    """
    summed: Tensor = values if processes() == 1 else _SumOverProcesses.apply(values)
    return summed


def class_sums(rows: Tensor, labels: Tensor, num_labels: int) -> tuple[Tensor, Tensor]:
    """Returns sums [C, D] of the rows of each label over the whole step, with gradient, and their counts [C].

    Args:
        rows: [n, D] of this process.
        labels: [n] int64 in 0..C-1.
        num_labels: C.
    """
    with_ones = torch.cat([rows, rows.new_ones(rows.shape[0], 1)], dim=1)
    sums = total(rows.new_zeros(num_labels, with_ones.shape[1]).index_add(0, labels, with_ones))
    return sums[:, :-1], sums[:, -1].detach()


def row_counts(count: int, *, device: torch.device) -> list[int]:
    """Returns how many rows each process has, of which this one has `count`."""
    if processes() == 1:
        return [count]
    local = torch.tensor(count, device=device)
    counts = [torch.zeros_like(local) for _ in range(processes())]
    dist.all_gather(counts, local)
    return [int(each) for each in torch.stack(counts).tolist()]


def gathered(*values: Tensor, counts: Sequence[int] | None = None) -> tuple[Tensor, ...]:
    """Returns tensors [n, ...] of all processes one after the other, without gradient; n may differ.

    In one process the tensors themselves.

    Args:
        values: With as many rows n, each.
        counts: The n of each process where it is known, as `row_counts` returns it.
    """
    if processes() == 1:
        return values
    counts = counts or row_counts(values[0].shape[0], device=values[0].device)
    found = []
    for value in values:
        padded = value.detach().new_zeros(max(counts), *value.shape[1:])
        padded[: value.shape[0]] = value.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        found.append(torch.cat([part[:each] for part, each in zip(parts, counts, strict=True)]))
    return tuple(found)
