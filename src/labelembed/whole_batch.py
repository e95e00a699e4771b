"""Sums over the whole optimiser step, in however many processes its rows are.

`DistributedDataParallel` averages the gradients of the processes. A mean over the rows of the whole step is
therefore each process' own sum, times the number of processes, over the count of all rows: then the average
is exactly the gradient that one process would have had. Every normaliser of an objective comes from here.

The rows of a step may also come one after the other, in micro-batches whose gradients add up (`accumulating`). How many
rows count in all of them is told beforehand.

Every function takes the `group` of processes that share the step: a process group, None for all that are up, or `ALONE`
for a pass that belongs to no step, as in evaluation: nobody is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

Group: TypeAlias = "dist.ProcessGroup | Literal['alone'] | None"
ALONE: Final = "alone"


def processes(group: Group = None) -> int:
    """Returns how many processes share the optimiser step.

    Raises:
        ValueError: This process is not in the group.
    """
    if group == ALONE or not (dist.is_available() and dist.is_initialized()):
        return 1
    count = dist.get_world_size(group)
    if count < 1:
        raise ValueError(f"process {dist.get_rank()} is not in the `process_group` that its objective was given")
    return count


def in_backward_pass() -> bool:
    """Tells whether gradients are being computed: a forward pass is then a repetition (activation checkpointing)."""
    # There is no public way to ask; torch's own activation checkpointing asks this one.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


class _Step:
    """An optimiser step whose rows come in micro-batches.

    Args:
        counts: How many rows count in each micro-batch of this process.
        device: Where processes exchange numbers.
        group: The processes that share the step.
    """

    def __init__(self, counts: Sequence[int], *, device: torch.device | str, group: Group) -> None:
        self.counts = frozenset(counts)
        self.row_count = sum(counts)
        if processes(group) > 1:
            row_count = torch.tensor(self.row_count, device=device)
            dist.all_reduce(row_count, group=_group(group))
            self.row_count = int(row_count)
        self.seen: set[Hashable] = set()
        self.held_back: dict[Hashable, tuple[Any, Callable[[Any], None]]] = {}


# Not a variable of a thread: `nn.DataParallel` calls its replicas in threads of their own.
_step: _Step | None = None
# Whether the latest forward pass was that of a micro-batch: so is then its repetition in the backward pass.
_accumulated = False


@contextmanager
def accumulating(counts: Sequence[int], *, device: torch.device | str = "cpu", group: Group = None) -> Iterator[None]:
    """Makes one optimiser step of all micro-batches of the block, in every process as many.

    Args:
        counts: How many rows count in each micro-batch of this process.
        device: Where processes exchange numbers.
        group: The processes that share the step.

    Raises:
        RuntimeError: A step is under way already.
    """
    global _step
    if _step is not None:
        raise RuntimeError("a step of several micro-batches is under way already: two cannot be accumulated at once")
    _step = _Step(counts, device=device, group=group)
    try:
        yield
        held_back = _step.held_back
    finally:
        _step = None
    for content, act in held_back.values():
        act(content)


def is_first_in_step(key: Hashable) -> bool:
    """Tells whether this is asked for the first time in the step; where nothing is accumulated it always is."""
    if _step is None:
        return True
    first = key not in _step.seen
    _step.seen.add(key)
    return first


def at_end_of_step(key: Hashable, content: Any, merge: Callable[[Any, Any], Any], act: Callable[[Any], None]) -> None:
    """Calls `act` with what the whole step has brought, when it is over; where nothing is accumulated, now.

    Args:
        key: Of what is brought.
        content: What this micro-batch brings.
        merge: Makes one content of an earlier and a later one.
        act: Called in the order in which the keys first came.
    """
    if _step is None:
        act(content)
        return
    if key in _step.held_back:
        content = merge(_step.held_back[key][0], content)
    _step.held_back[key] = content, act


def share_of_step(local_count: int, *, like: Tensor, group: Group = None) -> Tensor | float:
    """Returns which share of the step's rows a micro-batch has, of which so many are this process'."""
    if _step is None or group == ALONE:
        return 1.0
    return _over_processes(local_count, like=like, group=group).to(like.dtype) / max(_step.row_count, 1)


def mean_factor(local_count: int, *, like: Tensor, group: Group = None) -> Tensor | float:
    """Returns the factor that turns this process' sum over rows into its share of the mean over the whole step.

    The share is such that the average over the processes is the mean; the shares of micro-batches add up. Where
    nothing counts in any process the factor is finite, so that an empty sum stays 0. No gradient flows.

    Args:
        local_count: How many rows count in this process, in this micro-batch.
        like: The sum's own terms; the factor is of their type (float32 or float64) and on their device.
        group: The processes that share the step.

    Raises:
        ValueError: So many rows were not announced, in a step of several micro-batches.
        RuntimeError: A micro-batch is computed again (activation checkpointing) when its step is over.
    """
    global _accumulated
    if group == ALONE:
        return count_factor(local_count, like=like, group=ALONE)
    if not in_backward_pass():
        _accumulated = _step is not None
    elif _accumulated and _step is None:
        raise RuntimeError(
            "activation checkpointing computes a micro-batch again after its `accumulate` block, where the rows of the "
            "step are no longer known; call `backward` in the block"
        )
    if _step is None:
        return count_factor(local_count, like=like, group=group)
    if local_count not in _step.counts:
        announced = ", ".join(map(str, sorted(_step.counts)))
        raise ValueError(
            f"a micro-batch has {local_count} rows that count, and the step was announced with {announced}; give "
            "`accumulate` the labels of all micro-batches of the step"
        )
    return processes(group) / max(_step.row_count, 1)


def count_factor(local_count: Tensor | int, *, like: Tensor, group: Group = None) -> Tensor | float:
    """Returns the factor of `mean_factor` where this micro-batch is all there is of what is counted."""
    if processes(group) == 1:
        if isinstance(local_count, int):
            return 1 / max(local_count, 1)
        # The type first: the reciprocal of whole numbers would be float32, whatever the sum is.
        return local_count.detach().to(like.dtype).clamp_min(1).reciprocal()
    return processes(group) / _over_processes(local_count, like=like, group=group).to(like.dtype).clamp_min(1)


def _group(group: Group) -> dist.ProcessGroup | None:
    """Returns the group as torch takes it, for several processes."""
    return None if isinstance(group, str) else group


def _over_processes(local_count: Tensor | int, *, like: Tensor, group: Group) -> Tensor:
    count = torch.as_tensor(local_count, dtype=torch.int64, device=like.device).detach().clone()
    if processes(group) > 1:
        dist.all_reduce(count, group=_group(group))
    return count


def sum_factor(group: Group = None) -> float:
    """Returns the factor that turns this process' sum into its share of the sum over the whole step."""
    return float(processes(group))


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes; each process' loss sends its gradient to every process' part."""

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


def total(values: Tensor, *, group: Group = None) -> Tensor:
    """Returns the sum of `values` over the processes, with gradient; in one process `values` itself.

    Args:
        values: Of the same shape in every process.
        group: The processes that share the step.
    """
    summed: Tensor = values if processes(group) == 1 else _SumOverProcesses.apply(values, _group(group))
    return summed


def class_sums(rows: Tensor, labels: Tensor, num_labels: int, *, group: Group = None) -> tuple[Tensor, Tensor]:
    """Returns sums [C, D] of the rows of each label over the whole step, with gradient, and their counts [C].

    Args:
        rows: [n, D] of this process.
        labels: [n] int64 in 0..C-1.
        num_labels: C.
        group: The processes that share the step.
    """
    with_ones = torch.cat([rows, rows.new_ones(rows.shape[0], 1)], dim=1)
    sums = total(rows.new_zeros(num_labels, with_ones.shape[1]).index_add(0, labels, with_ones), group=group)
    return sums[:, :-1], sums[:, -1].detach()


def row_counts(count: int, *, device: torch.device, group: Group = None) -> list[int]:
    """Returns how many rows each process has, of which this one has `count`."""
    if processes(group) == 1:
        return [count]
    local = torch.tensor(count, device=device)
    counts = [torch.zeros_like(local) for _ in range(processes(group))]
    dist.all_gather(counts, local, group=_group(group))
    return [int(each) for each in torch.stack(counts).tolist()]


def gathered(*values: Tensor, counts: Sequence[int] | None = None, group: Group = None) -> tuple[Tensor, ...]:
    """Returns tensors [n, ...] of all processes one after the other, without gradient; n may differ.

    In one process the tensors themselves.

    Args:
        values: With as many rows n, each.
        counts: The n of each process where it is known, as `row_counts` returns it.
        group: The processes that share the step.
    """
    if processes(group) == 1:
        return values
    counts = counts or row_counts(values[0].shape[0], device=values[0].device, group=group)
    found = []
    for value in values:
        padded = value.detach().new_zeros(max(counts), *value.shape[1:])
        padded[: value.shape[0]] = value.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=_group(group))
        found.append(torch.cat([part[:each] for part, each in zip(parts, counts, strict=True)]))
    return tuple(found)
