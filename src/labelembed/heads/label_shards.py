"""Labels split over the processes: which are whose, and how what belongs to them goes from one to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor

from labelembed import whole_batch

# About how many numbers are drawn at a time where each process keeps a few of them.
_DRAWN_AT_ONCE = 2**24


@dataclass(frozen=True)
class LabelShards:
    """Labels 0..C-1 in as many equal parts as there are processes; the first ones have one label more.

    Args:
        num_labels: C.
        process: Number of this process.
        processes: How many there are.
    """

    num_labels: int
    process: int = 0
    processes: int = 1

    @classmethod
    def of(cls, num_labels: int) -> Self:
        """Returns the labels over the processes of the default group; over one where there is none."""
        processes = whole_batch.processes()
        return cls(num_labels, dist.get_rank() if processes > 1 else 0, processes)

    @property
    def sizes(self) -> list[int]:
        """How many labels each process has."""
        each, more = divmod(self.num_labels, self.processes)
        return [each + (process < more) for process in range(self.processes)]

    @property
    def count(self) -> int:
        """How many labels this process has."""
        return self.sizes[self.process]

    @property
    def begin(self) -> int:
        """The first label of this process."""
        return sum(self.sizes[: self.process])

    def owners(self, labels: Tensor) -> Tensor:
        """Returns which process each of the labels [n] belongs to, [n]."""
        ends = torch.tensor(self.sizes, device=labels.device).cumsum(0)
        return torch.bucketize(labels, ends, right=True)

    def own(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns which of the labels [n] are this process', [m] positions, and their places in its part, [m]."""
        places = labels - self.begin
        mine = ((places >= 0) & (places < self.count)).nonzero().squeeze(1)
        return mine, places[mine]

    def part(self, values: Tensor, dimension: int = 0) -> Tensor:
        """Returns this process' part of values of all labels, which stand along a dimension; a copy."""
        return values.narrow(dimension, self.begin, self.count).clone(memory_format=torch.contiguous_format)

    def whole(self, values: Tensor, dimension: int = 0) -> Tensor:
        """Returns values of all labels from every process' part, in every process, without gradient."""
        if self.processes == 1:
            return values.detach()
        (found,) = whole_batch.gathered(values.detach().movedim(dimension, 0), counts=self.sizes)
        return found.movedim(0, dimension)

    def on_main(self, values: Tensor, dimension: int = 0) -> Tensor | None:
        """Returns values of all labels on the first process' CPU, None in the others; one part after the other."""
        part = values.detach().contiguous()
        if self.process:
            dist.send(part, 0)
            return None
        parts = [part.cpu()]
        for process, size in enumerate(self.sizes[1:], start=1):
            shape = [*part.shape]
            shape[dimension] = size
            theirs = part.new_empty(shape)
            dist.recv(theirs, process)
            parts.append(theirs.cpu())
        return torch.cat(parts, dim=dimension)

    def drawn(self, rows: int, columns: int, draw: Callable[[Tensor], object], *, dimension: int = 0) -> Tensor:
        """Returns this process' part of a table [rows, columns], filled with the numbers that the whole would have.

        On a CPU, of a torch generator, whatever is drawn one number after the other: some rows at a time, of which
        those of the other processes are dropped.

        Args:
            rows: Of the whole table.
            columns: Of the whole table.
            draw: Fills a tensor in place.
            dimension: Along which the labels stand.
        """
        at_once = max(16, _DRAWN_AT_ONCE // columns // 16 * 16)  # normal numbers are drawn by sixteen
        cuts = list(range(0, rows, at_once))
        if len(cuts) > 1 and (rows - cuts[-1]) * columns < 16:
            cuts.pop()
        shape = [rows, columns]
        shape[dimension] = self.count
        found = torch.empty(shape)
        for begin, end in zip(cuts, [*cuts[1:], rows], strict=True):
            piece = torch.empty(end - begin, columns)
            draw(piece)
            if dimension == 1:
                found[begin:end] = piece[:, self.begin : self.begin + self.count]
                continue
            first, last = max(begin, self.begin), min(end, self.begin + self.count)
            if first < last:
                found[first - self.begin : last - self.begin] = piece[first - begin : last - begin]
        return found


def stacked(values: Tensor) -> Tensor:
    """Returns each process' values [...], of the same shape in all of them, as [processes, ...]; without gradient."""
    if whole_batch.processes() == 1:
        return values[None]
    parts = [torch.empty_like(values) for _ in range(whole_batch.processes())]
    dist.all_gather(parts, values.contiguous())
    return torch.stack(parts)


def added(values: Tensor) -> Tensor:
    """Returns the sum over the processes of values of the same shape in all of them, in place."""
    if whole_batch.processes() > 1 and values.numel():
        dist.all_reduce(values)
    return values


def to_owners(values: Tensor, counts: Sequence[int], *, own: int) -> Tensor:
    """Sends what each process has found about all rows to those whose rows they are.

    Args:
        values: [N, ...], of the rows of all processes one after the other.
        counts: How many rows each process has.
        own: The number of this process.

    Returns:
        [processes, n, ...]: what each of the processes found about this one's n rows.
    """
    if len(counts) == 1:
        return values[None]
    found = values.new_empty(len(counts) * counts[own], *values.shape[1:])
    if values.numel():
        dist.all_to_all_single(found, values.contiguous(), [counts[own]] * len(counts), list(counts))
    return found.view(len(counts), counts[own], *values.shape[1:])
