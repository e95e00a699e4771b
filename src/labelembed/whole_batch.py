"""Sums over the whole optimiser step, in however many processes its rows are.

`DistributedDataParallel` averages the gradients of the processes. A mean over the rows of the whole step is
therefore each process' own sum, times the number of processes, over the count of all rows: then the average
is exactly the gradient that one process would have had. Every normaliser of an objective comes from here.

The rows of a step may also come one after the other, in micro-batches whose gradients add up (`accumulating`). How many
rows count in all of them is told beforehand; of what is known only when the last one has been seen, `LateMean` sees to.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """Returns how many processes share the optimiser step."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Step:
    """An optimiser step whose rows come in micro-batches.

    Args:
        counts: How many rows count in each micro-batch of this process.
        device: Where processes exchange numbers.
    """

    def __init__(self, counts: Sequence[int], *, device: torch.device | str) -> None:
        self.counts = frozenset(counts)
        self.row_count = sum(counts)
        if processes() > 1:
            row_count = torch.tensor(self.row_count, device=device)
            dist.all_reduce(row_count)
            self.row_count = int(row_count)
        self.seen: set[Hashable] = set()
        self.means: dict[Hashable, LateMean] = {}
        self.held_back: dict[Hashable, tuple[Any, Callable[[Any], None]]] = {}


# Not a variable of a thread: `nn.DataParallel` calls its replicas in threads of their own.
_step: _Step | None = None


@contextmanager
def accumulating(counts: Sequence[int], *, device: torch.device | str = "cpu") -> Iterator[None]:
    """Makes one optimiser step of all micro-batches of the block, in every process as many.

    Args:
        counts: How many rows count in each micro-batch of this process.
        device: Where processes exchange numbers.

    Raises:
        RuntimeError: A step is under way already.
    """
    global _step
    if _step is not None:
        raise RuntimeError("a step of several micro-batches is under way already: two cannot be accumulated at once")
    _step = _Step(counts, device=device)
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


def share_of_step(count: Tensor) -> Tensor | float:
    """Returns which share of the step's rows a micro-batch with so many in all processes has."""
    return 1.0 if _step is None else count / max(_step.row_count, 1)


def mean_factor(local_count: int, *, like: Tensor) -> Tensor | float:
    """Returns the factor that turns this process' sum over rows into its share of the mean over the whole step.

    The share is such that the average over the processes is the mean; the shares of micro-batches add up. Where
    nothing counts in any process the factor is finite, so that an empty sum stays 0. No gradient flows.

    Args:
        local_count: How many rows count in this process, in this micro-batch.
        like: The sum's own terms; the factor is of their type (float32 or float64) and on their device.

    Raises:
        ValueError: So many rows were not announced, in a step of several micro-batches.
    """
    if _step is None:
        return count_factor(local_count, like=like)
    if local_count not in _step.counts:
        announced = ", ".join(map(str, sorted(_step.counts)))
        raise ValueError(
            f"a micro-batch has {local_count} rows that count, and the step was announced with {announced}; give "
            "`accumulate` the labels of all micro-batches of the step"
        )
    return processes() / max(_step.row_count, 1)


def count_factor(local_count: Tensor | int, *, like: Tensor) -> Tensor | float:
    """Returns the factor of `mean_factor` where this micro-batch is all there is of what is counted."""
    if processes() == 1:
        if isinstance(local_count, int):
            return 1 / max(local_count, 1)
        # The type first: the reciprocal of whole numbers would be float32, whatever the sum is.
        return local_count.detach().to(like.dtype).clamp_min(1).reciprocal()
    return processes() / _over_processes(local_count, like=like).to(like.dtype).clamp_min(1)


def _over_processes(local_count: Tensor | int, *, like: Tensor) -> Tensor:
    count = torch.as_tensor(local_count, dtype=torch.int64, device=like.device).detach().clone()
    if processes() > 1:
        dist.all_reduce(count)
    return count


class LateMean:
    """A mean over rows of which nobody knows how many there will be before the step's last micro-batch.

    The factor is that of the rows so far. With every micro-batch that comes, what earlier ones brought to the value
    and to the gradients of `taught` parameters changes as the factor does, so that after the last all is as of one
    batch. Gradients of these parameters from elsewhere stay as they are. It takes memory for another gradient.
    """

    def __init__(self) -> None:
        self.factors: list[Tensor] = []
        self._count: Tensor | None = None
        self._sum: Tensor | None = None
        self._taught: dict[Hashable, tuple[Tensor, Tensor]] = {}

    def factor(self, local_count: Tensor | int, *, like: Tensor) -> Tensor:
        """Returns the factor of the rows so far, these included; once a micro-batch."""
        count = _over_processes(local_count, like=like)
        self._count = count if self._count is None else self._count + count
        self.factors.append(processes() / self._count.to(like.dtype).clamp_min(1))
        return self.factors[-1]

    def carried(self, local_sum: Tensor) -> Tensor:
        """Returns what the value of the earlier micro-batches changes by; after `factor`, with this one's sum."""
        before, local_sum = self._sum, local_sum.detach()
        self._sum = local_sum if before is None else before + local_sum
        return torch.zeros_like(local_sum) if before is None else before * (self.factors[-1] - self.factors[-2])

    def taught(self, parameter: Tensor) -> Tensor:
        """Returns a parameter as this mean is to use it, before `factor` is called."""
        used: Tensor = _Taught.apply(parameter, self, id(parameter), len(self.factors))
        return used

    def gradient(self, key: Hashable, number: int, made: Tensor) -> Tensor:
        """Returns what a parameter's gradient changes by, given what micro-batch `number` made of it."""
        now = self.factors[-1]
        own = made.to(now.dtype) / self.factors[number]
        if key not in self._taught:
            self._taught[key] = own, now
            return (own * now).to(made.dtype)
        earlier, used = self._taught[key]
        change = own * now + earlier * (now - used)
        self._taught[key] = earlier.add_(own), now
        return change.to(made.dtype)


class _Taught(torch.autograd.Function):
    """A parameter itself; what flows back to it goes through `LateMean.gradient`."""

    @staticmethod
    def forward(ctx: Any, parameter: Tensor, mean: LateMean, key: Hashable, number: int) -> Tensor:
        ctx.mean, ctx.key, ctx.number = mean, key, number
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.mean.gradient(ctx.key, ctx.number, grads[0]), None, None, None


def late_mean(key: Hashable) -> LateMean | None:
    """Returns the step's mean of this key; None where the step has one batch, which knows all its rows."""
    return None if _step is None else _step.means.setdefault(key, LateMean())


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
