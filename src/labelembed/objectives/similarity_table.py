"""What a network on average says of each label's rows: one distribution a label, whole or by its largest entries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from labelembed import whole_batch
from labelembed.losses.soft_targets import SparseRows, dense, sparse

# A whole table of so many labels takes 16 MB, and moving it costs less than most networks' step.
DENSE_LABELS = 2_000
# Entries a label in a larger table: 50,000 labels take 26 MB.
SPARSE_ENTRIES = 64

# Labels [m], the sums of their rows' distributions [m, C], and how many rows they are [m].
LabelSums = tuple[Tensor, Tensor, Tensor]


class SimilarityTable(nn.Module):
    """Distributions S[c] over C labels, means of predictions; starts uniform.

    Up to 2,000 labels the whole [C, C]; above, or with `top_k`, the largest entries of each row with the rest spread
    evenly, in 8 bytes an entry.

    Args:
        num_labels: C.
        top_k: Entries kept a row; None: all up to 2,000 labels, 64 above.
    """

    values: Tensor
    labels: Tensor
    seen: Tensor

    def __init__(self, num_labels: int, *, top_k: int | None = None) -> None:
        super().__init__()
        if top_k is None:
            top_k = num_labels if num_labels <= DENSE_LABELS else SPARSE_ENTRIES
        width = min(top_k, num_labels)
        self.num_labels = num_labels
        self.sparse = width < num_labels
        self.register_buffer("values", torch.full((num_labels, width), 1 / num_labels))
        self.register_buffer("seen", torch.zeros(num_labels, dtype=torch.int64))
        if self.sparse:
            numbers = torch.arange(width, dtype=torch.int32)  # gloo sends no int16
            self.register_buffer("labels", torch.empty(num_labels, width, dtype=torch.int32).copy_(numbers))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the table; below float32 it does not go, for a mean that moves by a hundredth would stand still."""
        for name, table in self._buffers.items():
            if table is not None:
                moved = fn(table)
                self._buffers[name] = moved.float() if moved.dtype in (torch.float16, torch.bfloat16) else moved
        return self

    def rows(self, labels: Tensor) -> Tensor | SparseRows:
        """Returns a copy of S[labels]: [n, C], or by the largest entries."""
        values = self.values[labels]
        return SparseRows(values, self.labels[labels].long()) if self.sparse else values

    def whole(self) -> Tensor:
        """Returns a copy of S [C, C]."""
        if not self.sparse:
            return self.values.clone()
        return dense(SparseRows(self.values, self.labels.long()), self.num_labels)

    @torch.no_grad()
    def absorb(
        self,
        probabilities: Tensor,
        labels: Tensor,
        has_part: Tensor,
        *,
        momentum: float | None,
        half: int = 0,
        group: whole_batch.Group = None,
    ) -> None:
        """Moves the rows of the step's labels towards the step's mean predictions.

        With n rows of a label that have a part, and their mean prediction m::

            S[c] = keep S[c] + (1 - keep) m      keep = momentum ** n, or with None seen / (seen + n): the mean of all

        In several processes the step's rows are those of all of them. Of a step in micro-batches they are those of
        all of these, and S moves at its end.

        Args:
            probabilities: [n, C], what the network says.
            labels: [n].
            has_part: [n] bool, which rows count.
            momentum: How much of the old is kept a row; None: as much as there was of it.
            half: Of mixed rows: whether `labels` are their first or their second.
            group: The processes that share the step.
        """
        probabilities = probabilities.to(self.values.dtype)
        key = (self, half)
        if self.sparse:
            some = self._sums_of_some(probabilities, labels, has_part)
            whole_batch.at_end_of_step(key, some, _joined, partial(self._absorb_some, momentum=momentum, group=group))
            return
        # No row is selected: the sizes stay the same at every step, and a GPU need not be waited for.
        weights = has_part.to(probabilities.dtype)[:, None]
        weighted = torch.cat([probabilities * weights, weights], dim=1)
        sums = weighted.new_zeros(self.num_labels, weighted.shape[1]).index_add_(0, labels, weighted)
        whole_batch.at_end_of_step(key, sums, torch.add, partial(self._absorb_all, momentum=momentum, group=group))

    def _absorb_all(self, sums: Tensor, *, momentum: float | None, group: whole_batch.Group) -> None:
        sums = whole_batch.total(sums, group=group)
        means, counts = sums[:, :-1], sums[:, -1]
        keep = self._keep(self.seen, counts, momentum)[:, None]
        self.values.mul_(keep).add_(means * ((1 - keep) / counts.clamp_min(1)[:, None]))
        self.seen += counts.long()

    def _sums_of_some(self, probabilities: Tensor, labels: Tensor, has_part: Tensor) -> LabelSums:
        present, places = torch.unique(labels[has_part], return_inverse=True)
        sums = probabilities.new_zeros(present.shape[0], self.num_labels)
        sums.index_add_(0, places, probabilities[has_part])
        return present, sums, torch.bincount(places, minlength=present.shape[0])

    def _absorb_some(self, some: LabelSums, *, momentum: float | None, group: whole_batch.Group) -> None:
        if whole_batch.processes(group) > 1:
            some = _by_label(*whole_batch.gathered(*some, group=group))
        present, sums, counts = some
        keep = self._keep(self.seen[present], counts.to(sums.dtype), momentum)[:, None]
        old = dense(SparseRows(self.values[present], self.labels[present].long()), self.num_labels)
        new = sparse(keep * old + sums * ((1 - keep) / counts[:, None]), self.values.shape[1])
        self.values.index_copy_(0, present, new.values)
        self.labels.index_copy_(0, present, new.labels.to(self.labels.dtype))
        self.seen.index_add_(0, present, counts)

    @staticmethod
    def _keep(seen: Tensor, counts: Tensor, momentum: float | None) -> Tensor:
        if momentum is not None:
            return momentum**counts
        return torch.where(counts > 0, seen / (seen + counts).clamp_min(1), 1.0).to(counts.dtype)

    @torch.no_grad()
    def take(self, other: SimilarityTable) -> None:
        """Takes over the rows for which `other` has seen anything, and makes `other` forget that it has."""
        has = (other.seen > 0)[:, None]
        self.values.copy_(torch.where(has, other.values, self.values))
        if self.sparse:
            self.labels.copy_(torch.where(has, other.labels, self.labels))
        other.seen.zero_()


def _joined(first: LabelSums, second: LabelSums) -> LabelSums:
    return _by_label(*(torch.cat(parts) for parts in zip(first, second, strict=True)))


def _by_label(labels: Tensor, sums: Tensor, counts: Tensor) -> LabelSums:
    """Returns each label once, with what it has in all."""
    present, places = torch.unique(labels, return_inverse=True)
    return (
        present,
        sums.new_zeros(present.shape[0], sums.shape[1]).index_add_(0, places, sums),
        torch.zeros_like(present).index_add_(0, places, counts),
    )
