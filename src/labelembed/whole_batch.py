"""Sums over the whole optimiser step, in however many processes its rows are.

`DistributedDataParallel` averages the gradients of the processes. A mean over the rows of the whole step is
therefore each process' own sum, times the number of processes, over the count of all rows: then the average
is exactly the gradient that one process would have had. Every normaliser of an objective comes from here.
"""

from __future__ import annotations

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
