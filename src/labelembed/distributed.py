"""Sums over the processes that share a training step.

`DistributedDataParallel` averages the gradients of the processes. A mean over the global batch is therefore each
process's own sum, times the number of processes, divided by the count of all: then the average is exactly the gradient
that one process would have had.

Every function takes the `group` of processes: a process group, None for all that are up, or `ALONE` for a pass that
belongs to no step, as in evaluation, where no process waits for another.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Group: TypeAlias = "dist.ProcessGroup | Literal['alone'] | None"
ALONE: Final = "alone"


def process_count(group: Group = None) -> int:
    """Returns how many processes share the optimiser step.

    Raises:
        ValueError: This process is not in the group.
    """
    if group == ALONE or not (dist.is_available() and dist.is_initialized()):
        return 1
    count = dist.get_world_size(_process_group(group))
    if count < 1:
        raise ValueError(f"process {dist.get_rank()} is not in the `process_group` that its objective was given")
    return count


def global_count(values: Tensor, *, group: Group = None) -> Tensor:
    """Returns the sum of counts or statistics over the processes, without gradient.

    Args:
        values: Of the same shape in every process.
        group: The processes that share the step.
    """
    values = values.detach()
    if process_count(group) > 1:
        values = values.clone()
        dist.all_reduce(values, group=_process_group(group))
    return values


def global_sum(values: Tensor, *, group: Group = None) -> Tensor:
    """Returns the sum of `values` over the processes, with gradient; in one process `values` itself.

    Args:
        values: Of the same shape in every process.
        group: The processes that share the step.
    """
    summed: Tensor = values if process_count(group) == 1 else _GlobalSum.apply(values, _process_group(group))
    return summed


class _GlobalSum(torch.autograd.Function):
    """The sum of a tensor over the processes; each process's loss sends its gradient to every process's part."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        gradient = grads[0].contiguous().clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None


def class_sums(
    values: Tensor, labels: Tensor, weights: Tensor, num_labels: int, *, group: Group = None
) -> tuple[Tensor, Tensor]:
    """Returns the weighted sums [C, D] of the vectors of each label over the step, with gradient, and of weights [C].

    Args:
        values: [n, D] of this process.
        labels: [n] int64 in 0..C-1.
        weights: [n], how many examples each counts for; 0: it takes no part.
        num_labels: C.
        group: The processes that share the step.
    """
    weights = weights.to(values.dtype)[:, None]
    weighted = torch.cat([values * weights, weights], dim=1)
    sums = values.new_zeros(num_labels, weighted.shape[1]).index_add(0, labels, weighted)
    sums = global_sum(sums, group=group)
    return sums[:, :-1], sums[:, -1].detach()


def gather(*values: Tensor, group: Group = None) -> tuple[Tensor, ...]:
    """Returns tensors [n, ...] of all processes one after the other, without gradient; n may differ.

    In one process the tensors themselves.

    Args:
        values: Of the same length n in this process.
        group: The processes that share the step.
    """
    if process_count(group) == 1:
        return values
    length = torch.tensor(values[0].shape[0], device=values[0].device)
    lengths = [int(each) for each in _gathered(length, group)]
    gathered = []
    for value in values:
        padded = value.detach().new_zeros(max(lengths), *value.shape[1:])
        padded[: value.shape[0]] = value.detach()
        parts = zip(_gathered(padded, group), lengths, strict=True)
        gathered.append(torch.cat([part[:count] for part, count in parts]))
    return tuple(gathered)


def _gathered(value: Tensor, group: Group) -> list[Tensor]:
    parts = [torch.empty_like(value) for _ in range(process_count(group))]
    dist.all_gather(parts, value, group=_process_group(group))
    return parts


def _process_group(group: Group) -> dist.ProcessGroup | None:
    """Returns the group as torch takes it, for several processes."""
    return None if isinstance(group, str) else group
