"""Distillation: a trained network's soft outputs for the very rows that are learned."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.heads import full_precision
from labelembed.objectives.objective import Objective


class DistillationTerms(NamedTuple):
    """Terms of `Distillation`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor


class Distillation(Objective):
    """Learns the labels and what a teacher says of each training row (Hinton, Vinyals, Dean 2015).

    ``total = (1 - w) output + w tau**2 teacher`` with ``output = CE(onehot(y), z)`` and
    ``teacher = KL(softmax(t / tau) || softmax(z / tau))``, t the teacher's logits of the row. The factor tau
    squared keeps the gradients of both terms in proportion, whatever the temperature. The teacher's logits are
    a table made once, without augmentation; `rows` says which of its rows a batch has.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        teacher_logits: The folder of the finished run that is the teacher. In Python: its logits [R, C] for
            every training row, or None where the objective is to predict only; no saved model carries them.
        temperature: tau, how soft both outputs are made; > 0.
        teacher_weight: w, the share of the teacher in the loss, in [0, 1].
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range, or the table has another number of labels.

    Example:
        >>> import torch
        >>> objective = Distillation(8, 3, teacher_logits=torch.randn(10, 3), temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), rows=torch.tensor([7, 0, 9, 2]))
        >>> torch.allclose(terms.total, 0.1 * terms.output + 0.9 * 2.0**2 * terms.teacher)
        True
    """

    # Not in checkpoints either: the table never changes, and a run folder holds it once.
    training_buffers = frozenset({"teacher_logits"})
    teacher_logits: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        teacher_logits: Tensor | None,
        temperature: float = 4.0,
        teacher_weight: float = 0.9,
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
    ) -> None:
        faults = ArgumentFaults()
        if teacher_logits is not None:
            shape, wanted = list(teacher_logits.shape), f"must be [rows, {num_labels}], one row a training row"
            fits = len(shape) == 2 and shape[1] == num_labels
            faults.require(fits, "teacher_logits", shape, wanted)
            finite = not fits or bool(torch.isfinite(teacher_logits).all())
            faults.require(finite, "teacher_logits", "inf or nan", "must be finite")
        faults.require(temperature > 0, "temperature", temperature, "must be > 0")
        faults.require(0 <= teacher_weight <= 1, "teacher_weight", teacher_weight, "must be in [0, 1]")
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.temperature = temperature
        self.teacher_weight = teacher_weight
        table = None if teacher_logits is None else teacher_logits.detach().clone()
        self.register_buffer("teacher_logits", table, persistent=False)

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> DistillationTerms:
        """Computes the terms; see `Objective.forward`.

        Raises:
            ValueError: When `rows` is None, of another number than the labels, or not of the teacher's table.
        """
        given = labels
        hidden, labels = self.counted(hidden, labels)
        taught = self._teacher_of(given, rows)
        logits = full_precision(self.output(hidden))
        row_factor = whole_batch.mean_factor(labels.shape[0], like=logits)
        output = F.cross_entropy(logits, labels, reduction="sum") * row_factor
        log_taught = F.log_softmax(full_precision(taught).to(logits.dtype) / self.temperature, dim=-1)
        log_probabilities = F.log_softmax(logits / self.temperature, dim=-1)
        teacher = (log_taught.exp() * (log_taught - log_probabilities)).sum() * row_factor
        total = (1 - self.teacher_weight) * output + self.teacher_weight * self.temperature**2 * teacher
        return DistillationTerms(total=total, output=output, teacher=teacher)

    def _teacher_of(self, labels: Tensor, rows: Tensor | None) -> Tensor:
        """Returns the teacher's logits [n, C] of the rows that count."""
        table = self.teacher_logits
        if table is None:
            raise ValueError("`teacher_logits` must be given to train, got None: this objective can predict only")
        if rows is None:
            raise ValueError("`rows` must say which training rows these are, got None")
        if rows.numel() != labels.numel():
            raise ValueError(f"`rows` must be one for each of the labels {list(labels.shape)}, got {list(rows.shape)}")
        rows = rows.flatten()
        if self.ignore_index is not None:
            rows = rows[labels.flatten() != self.ignore_index]
        # Compiled code cannot look at values; there the look-up itself is all the check.
        if not torch.compiler.is_compiling() and rows.numel() > 0:
            first, last = int(rows.min()), int(rows.max())
            if first < 0 or last >= table.shape[0]:
                wrong = first if first < 0 else last
                raise ValueError(f"`rows` must be in 0..{table.shape[0] - 1}, the rows of the teacher, got {wrong}")
        return table[rows]
