"""What a network said of the labels, remembered: of every training example, or on average of each label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from labelembed.distributed import Group, gather, global_count, process_count
from labelembed.losses import chunk_size
from labelembed.losses.soft_targets import SparseTargets, dense, label_type, sparse

# Of each example all entries are kept up to so many labels; above, the largest.
WHOLE_EXAMPLE_LABELS, EXAMPLE_ENTRIES = 256, 32
# The same of each label: a whole table of 2,000 labels takes 16 MB, and one of 50,000 labels with 64 entries 26 MB.
DENSE_LABELS, LABEL_ENTRIES = 2_000, 64


def kept_entries(num_labels: int, top_k: int | None = None) -> int:
    """Returns how many entries of an example are kept: `top_k`, or None: all up to 256 labels, 32 above."""
    if top_k is None:
        top_k = num_labels if num_labels <= WHOLE_EXAMPLE_LABELS else EXAMPLE_ENTRIES
    return min(top_k, num_labels)


def bytes_needed(num_examples: int, num_labels: int, *, top_k: int | None = None) -> int:
    """Returns the bytes of a table: 1.2 million examples of 1,000 labels take 154 MB with 32 entries, 2.4 GB whole."""
    width = kept_entries(num_labels, top_k)
    of_labels = label_type(num_labels).itemsize if width < num_labels else 0
    return num_examples * width * (torch.float16.itemsize + of_labels)


class SoftLabelTable(NamedTuple):
    """Distributions of R training examples; what the kept entries leave of 1 is spread evenly over the other labels.

    Attributes:
        values: [R, k], float16; may be a file mapped into memory.
        labels: [R, k], of which labels they are, int16 or int32; None: k = C, all in order.
    """

    values: Tensor
    labels: Tensor | None

    @classmethod
    def of_logits(cls, logits: Tensor, *, temperature: float, top_k: int) -> Self:
        """Returns the table of ``softmax(logits / temperature)`` of logits [R, C], on their device."""
        num_examples, num_labels = logits.shape
        table = cls.uniform(num_examples, num_labels, top_k=top_k, device=logits.device)
        table = cls(table.values.clone(), None if table.labels is None else table.labels.clone())
        for some in torch.split(torch.arange(num_examples, device=logits.device), chunk_size(num_labels)):
            table.put(some, torch.softmax(logits[some].float() / temperature, dim=1))
        return table

    @classmethod
    def uniform(
        cls, num_examples: int, num_labels: int, *, top_k: int | None = None, device: torch.device | None = None
    ) -> Self:
        """Returns a table of uniform distributions in the memory of one example; nothing can be put into it."""
        width = kept_entries(num_labels, top_k)
        values = torch.full((1, width), 1 / num_labels, dtype=torch.float16, device=device).expand(num_examples, -1)
        if width == num_labels:
            return cls(values, None)
        labels = torch.arange(width, dtype=label_type(num_labels), device=device)
        return cls(values, labels.expand(num_examples, -1))

    def at(self, indices: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor | SparseTargets:
        """Returns the distributions of examples [n] on the device of `indices`: [n, C], or the largest entries."""
        places = indices.to(self.values.device)
        found = self.values[places].to(indices.device, dtype)
        return found if self.labels is None else SparseTargets(found, self.labels[places].to(indices.device).long())

    @torch.no_grad()
    def put(self, indices: Tensor, probabilities: Tensor) -> None:
        """Writes the distributions [n, C] of examples [n]."""
        indices = indices.to(self.values.device)
        if self.labels is not None:
            kept = sparse(probabilities, self.labels.shape[1])
            self.labels.index_copy_(0, indices, kept.labels.to(self.labels))
            probabilities = kept.values
        self.values.index_copy_(0, indices, probabilities.to(self.values))


class SoftLabelStore(nn.Module):
    """Distributions of R training examples over C labels, float16, and the examples' labels.

    Args:
        num_examples: R.
        num_labels: C.
        top_k: Entries kept of an example; None: all up to 256 labels, 32 above.
    """

    #: Checkpoints hold its buffers, saved models do not: prediction needs none.
    training_only: ClassVar[bool] = True

    values: Tensor
    labels: Tensor
    classes: Tensor
    generation: Tensor

    def __init__(self, num_examples: int, num_labels: int, *, top_k: int | None = None) -> None:
        super().__init__()
        self.num_examples = num_examples
        self.num_labels = num_labels
        width = kept_entries(num_labels, top_k)
        self.sparse = width < num_labels
        self.register_buffer("generation", torch.zeros((), dtype=torch.int64))
        # The same number: reading it needs no wait for a GPU.
        self.generations = 0
        self.register_buffer("values", torch.zeros(num_examples, width, dtype=torch.float16))
        if self.sparse:
            self.register_buffer("labels", torch.zeros(num_examples, width, dtype=label_type(num_labels)))
        # For the class means of what is stored; -1: nothing is.
        self.register_buffer("classes", torch.full((num_examples,), -1, dtype=torch.int32))

    @property
    def filled(self) -> bool:
        """Tells whether every example has been stored."""
        return self.generations > 0

    def at(self, indices: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor | SparseTargets:
        """Returns the distributions of examples [n]: [n, C], or the largest entries."""
        return self._table().at(indices, dtype=dtype)

    @torch.no_grad()
    def put(self, indices: Tensor, probabilities: Tensor, classes: Tensor) -> None:
        """Stores the distributions [n, C] and the labels [n] of examples [n]."""
        self._table().put(indices, probabilities)
        self.classes.index_copy_(0, indices, classes.to(self.classes.dtype))

    def end(self) -> None:
        """Every example has been stored."""
        self.generations += 1
        self.generation.fill_(self.generations)

    @torch.no_grad()
    def class_means(self) -> Tensor:
        """Returns the mean distribution [C, C] of each label's examples; of a label without examples 1 / C."""
        sums = torch.zeros(self.num_labels, self.num_labels, dtype=torch.float64, device=self.classes.device)
        for some in torch.split(torch.arange(self.num_examples, device=sums.device), 10_000):
            some = some[self.classes[some] >= 0]
            stored = self.at(some)
            stored = dense(stored, self.num_labels) if isinstance(stored, SparseTargets) else stored
            sums.index_add_(0, self.classes[some].long(), stored.double())
        counts = sums.sum(dim=1, keepdim=True)  # each float16 distribution adds up to about 1
        return torch.where(counts > 0, sums / counts.clamp_min(1e-6), 1 / self.num_labels).float()

    def _table(self) -> SoftLabelTable:
        return SoftLabelTable(self.values, self.labels if self.sparse else None)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the tables to another device, and leaves them float16 whatever the network becomes."""
        for name, table in self._buffers.items():
            if table is not None:
                self._buffers[name] = fn(table).to(table.dtype)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        for name, lowest in (("labels", 0), ("classes", -1)):
            table = self._buffers.get(name)
            if table is not None and len(table) and not self._are_labels(table, lowest):
                rest[-1].append(
                    f"{prefix}{name}: has labels outside 0..{self.num_labels - 1}"
                )  # torch's list of errors
        self.generations = int(self.generation)

    def _are_labels(self, table: Tensor, lowest: int) -> bool:
        return int(table.min()) >= lowest and int(table.max()) < self.num_labels


class SimilarityTable(nn.Module):
    """Distributions S[c] over C labels, means of predictions; starts uniform.

    Up to 2,000 labels the whole [C, C]; above, or with `top_k`, the largest entries of each label with the rest spread
    evenly, in 8 bytes an entry.

    Args:
        num_labels: C.
        top_k: Entries kept of a label; None: all up to 2,000 labels, 64 above.
        training_only: Whether prediction does not need it, so that saved models do without.
    """

    values: Tensor
    labels: Tensor
    seen: Tensor

    def __init__(self, num_labels: int, *, top_k: int | None = None, training_only: bool = False) -> None:
        super().__init__()
        if top_k is None:
            top_k = num_labels if num_labels <= DENSE_LABELS else LABEL_ENTRIES
        width = min(top_k, num_labels)
        self.training_only = training_only
        self.num_labels = num_labels
        self.sparse = width < num_labels
        self.register_buffer("values", torch.full((num_labels, width), 1 / num_labels))
        self.register_buffer("seen", torch.zeros(num_labels, dtype=torch.int64))
        if self.sparse:
            numbers = torch.arange(width, dtype=torch.int32)  # gloo sends no int16
            self.register_buffer("labels", torch.empty(num_labels, width, dtype=torch.int32).copy_(numbers))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Moves the table; it stays float32 at least, for a mean that moves by a hundredth would stand still."""
        for name, table in self._buffers.items():
            if table is not None:
                moved = fn(table)
                self._buffers[name] = moved.float() if moved.dtype in (torch.float16, torch.bfloat16) else moved
        return self

    def at(self, labels: Tensor) -> Tensor | SparseTargets:
        """Returns a copy of S[labels]: [n, C], or the largest entries."""
        values = self.values[labels]
        return SparseTargets(values, self.labels[labels].long()) if self.sparse else values

    def whole(self) -> Tensor:
        """Returns a copy of S [C, C]."""
        if not self.sparse:
            return self.values.clone()
        return dense(SparseTargets(self.values, self.labels.long()), self.num_labels)

    @torch.no_grad()
    def update(
        self, probabilities: Tensor, labels: Tensor, counts: Tensor, *, momentum: float | None, group: Group = None
    ) -> None:
        """Moves S towards the batch's mean predictions of each label.

        With n examples of a label that count, and their mean prediction m::

            S[c] = keep S[c] + (1 - keep) m      keep = momentum ** n, or with None seen / (seen + n): the mean of all

        Args:
            probabilities: [n, C], what the network predicts.
            labels: [n].
            counts: [n] bool, which examples count.
            momentum: How much of the old an example leaves; None: as much as there was of it.
            group: The processes that share the step: the examples of all of them count.
        """
        probabilities = probabilities.to(self.values.dtype)
        if self.sparse:
            self._update_some(probabilities[counts], labels[counts], momentum, group)
            return
        # Nothing is selected: the sizes stay the same at every step, and a GPU need not be waited for.
        ones = counts.to(probabilities.dtype)[:, None]
        weighted = torch.cat([probabilities * ones, ones], dim=1)
        sums = weighted.new_zeros(self.num_labels, weighted.shape[1]).index_add_(0, labels, weighted)
        sums = global_count(sums, group=group)
        means, number = sums[:, :-1], sums[:, -1]
        keep = self._keep(self.seen, number, momentum)[:, None]
        self.values.mul_(keep).add_(means * ((1 - keep) / number.clamp_min(1)[:, None]))
        self.seen += number.long()

    def _update_some(self, probabilities: Tensor, labels: Tensor, momentum: float | None, group: Group) -> None:
        some = self._sums(labels, probabilities, torch.ones_like(labels))
        if process_count(group) > 1:
            some = self._sums(*gather(*some, group=group))
        present, sums, number = some
        keep = self._keep(self.seen[present], number.to(sums.dtype), momentum)[:, None]
        old = dense(SparseTargets(self.values[present], self.labels[present].long()), self.num_labels)
        new = sparse(keep * old + sums * ((1 - keep) / number[:, None]), self.values.shape[1])
        self.values.index_copy_(0, present, new.values)
        self.labels.index_copy_(0, present, new.labels.to(self.labels.dtype))
        self.seen.index_add_(0, present, number)

    @staticmethod
    def _sums(labels: Tensor, values: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns each label once [m], with the sums of its values [m, C] and numbers [m]."""
        present, places = torch.unique(labels, return_inverse=True)
        sums = values.new_zeros(present.shape[0], values.shape[1]).index_add_(0, places, values)
        return present, sums, torch.zeros_like(present).index_add_(0, places, numbers)

    @staticmethod
    def _keep(seen: Tensor, number: Tensor, momentum: float | None) -> Tensor:
        if momentum is not None:
            return momentum**number
        return torch.where(number > 0, seen / (seen + number).clamp_min(1), 1.0).to(number.dtype)

    @torch.no_grad()
    def take(self, other: SimilarityTable) -> None:
        """Takes over the labels of which `other` has seen anything, and makes `other` forget that it has."""
        has = (other.seen > 0)[:, None]
        self.values.copy_(torch.where(has, other.values, self.values))
        if self.sparse:
            self.labels.copy_(torch.where(has, other.labels, self.labels))
        other.seen.zero_()
