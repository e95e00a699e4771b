"""Distillation: a trained network's soft outputs for the very rows that are learned."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.losses import full_precision
from labelembed.losses.soft_targets import entropy, soft_cross_entropy
from labelembed.objectives.objective import Objective
from labelembed.objectives.row_numbers import counted_row_numbers
from labelembed.objectives.search_space import Range, SearchSpace
from labelembed.objectives.soft_label_table import SoftLabelTable, kept_entries


class DistillationTerms(NamedTuple):
    """Terms of `Distillation`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor


class Distillation(Objective):
    """Learns the labels and what a teacher says of each training row (Hinton, Vinyals, Dean 2015).

    ``total = (1 - w) output + w tau**2 teacher`` with ``output = CE(onehot(y), z)`` and
    ``teacher = KL(softmax(t / tau) || softmax(z / tau))``, t the teacher's logits of the row. The factor tau
    squared keeps the gradients of both terms in proportion, whatever the temperature. What the teacher says is a
    table made once, without augmentation; `rows` says which of its rows a batch has.

    Over a corpus a row is a target token, told the right words before it (Kim, Rush 2016, word-level distillation).
    There is no augmentation, so the teacher says the same of a token in every epoch: asked once it costs one pass over
    the corpus, run alongside the student it would cost one every epoch, and to go on would need the teacher. A table
    of all logits would be 6.9 GB for 430,000 tokens and 4,000 labels. So ``softmax(t / tau)`` is kept by its `top_k`
    largest entries in float16, with their labels, and what they leave of 1 is spread evenly: 55 MB. For 40 million
    tokens it is 5 GB, in a file of the run folder that the system maps into memory as it is read.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        teacher_logits: The folder of the finished run that is the teacher. In Python: its logits [R, C] for
            every training row; None where the objective is to predict only, or gets its table by `teach`. No saved
            model carries them.
        temperature: tau, how soft both outputs are made; > 0.
        teacher_weight: w, the share of the teacher in the loss, in [0, 1].
        top_k: Entries kept of the teacher's softened outputs, see above. None: of rows the logits, all of them and
            exact, 4 bytes each; of a corpus's tokens 32, and all of them up to 256 labels.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part; None: every row counts.
        output_std: Start of the output layer, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range, or the logits are not finite or of another number of labels.

    Example:
        >>> import torch
        >>> objective = Distillation(8, 3, teacher_logits=torch.randn(10, 3), temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), rows=torch.tensor([7, 0, 9, 2]))
        >>> torch.allclose(terms.total, 0.1 * terms.output + 0.9 * 2.0**2 * terms.teacher)
        True
    """

    search_space: ClassVar[SearchSpace] = {
        "teacher_weight": Range(0.1, 1.0),
        "temperature": Range(1.0, 10.0, log=True),
    }

    # Not in checkpoints either: what the teacher says never changes, and a run folder holds it once.
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
        top_k: int | None = None,
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
        faults.require(top_k is None or top_k >= 1, "top_k", top_k, "must be >= 1, or None")
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
        # Neither buffers nor moved with the module: a table of gigabytes stays in its file.
        self._table: SoftLabelTable | None = None
        kept = None
        if teacher_logits is not None and top_k is None:
            kept = teacher_logits.detach().clone()
        elif teacher_logits is not None and top_k is not None:
            entries = kept_entries(num_labels, top_k)
            self._table = SoftLabelTable.of_logits(teacher_logits.detach(), temperature=temperature, top_k=entries)
        self.register_buffer("teacher_logits", kept, persistent=False)

    def teach(self, table: SoftLabelTable) -> None:
        """Takes what the teacher says of every training row: ``softmax(t / tau)`` at this objective's temperature."""
        self._table = table

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> DistillationTerms:
        """Computes the terms; see `Objective.forward`.

        Raises:
            ValueError: When `rows` is None, of another shape than the labels, or not of the teacher's table.
        """
        given = labels
        hidden, labels = self.counted(hidden, labels)
        places = self._places(given, rows)
        logits = full_precision(self.output(hidden))
        row_factor = whole_batch.mean_factor(labels.shape[0], like=logits, group=self.step_group)
        output = F.cross_entropy(logits, labels, reduction="sum") * row_factor
        log_probabilities = F.log_softmax(logits / self.temperature, dim=-1)
        teacher = self._divergence(places, log_probabilities).sum() * row_factor
        total = (1 - self.teacher_weight) * output + self.teacher_weight * self.temperature**2 * teacher
        return DistillationTerms(total=total, output=output, teacher=teacher)

    def remembered(self, rows: Tensor) -> dict[str, Tensor]:
        """Returns what is kept outside the buffers of rows [n], by name: what the teacher says of them."""
        return (
            {}
            if self._table is None
            else {"the teacher's table": self._table.values[rows.to(self._table.values.device)]}
        )

    def _places(self, labels: Tensor, rows: Tensor | None) -> Tensor:
        """Returns the row numbers [n] of the rows that count."""
        table = self.teacher_logits if self._table is None else self._table.values
        if table is None:
            raise ValueError("`teacher_logits` must be given to train, got None: this objective can predict only")
        return counted_row_numbers(
            rows,
            labels,
            num_rows=table.shape[0],
            ignore_index=self.ignore_index,
            reason="the teacher is asked about each row",
        )

    def _divergence(self, places: Tensor, log_probabilities: Tensor) -> Tensor:
        """Returns KL(teacher || student) [n] of softened outputs, for log p [n, C] of the student."""
        if self._table is not None:
            taught = self._table.rows(places, dtype=log_probabilities.dtype)
            return soft_cross_entropy(taught, log_probabilities) - entropy(taught, self.num_labels)
        assert self.teacher_logits is not None  # _places has seen to it
        logits = full_precision(self.teacher_logits[places]).to(log_probabilities.dtype)
        log_taught = F.log_softmax(logits / self.temperature, dim=-1)
        return (log_taught.exp() * (log_taught - log_probabilities)).sum(dim=-1)
