"""Distillation: a trained network's soft outputs for the very examples that are learned."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses import full_precision
from labelembed.losses.reference import cross_entropy, log_softmax, uniform_cross_entropy
from labelembed.losses.soft_targets import entropy, soft_cross_entropy
from labelembed.objectives.base import CommonArguments, Objective
from labelembed.objectives.examples import checked_indices
from labelembed.objectives.soft_labels import SoftLabelTable, kept_entries


class DistillationTerms(NamedTuple):
    """Terms of `Distillation`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor
    uniform: Tensor


class Distillation(Objective):
    """Learns the labels and a teacher's predictions of each training example (Hinton, Vinyals, Dean 2015).

    ``total = (1 - w - u) output + w tau**2 teacher + u uniform`` with ``output = CE(onehot(y), z)``,
    ``teacher = KL(softmax(t / tau) || softmax(z / tau))``, t the teacher's logits of the example, and
    ``uniform = CE(1/C, z)``, which is not in the paper. The factor tau squared keeps the gradients of the first two in
    proportion, whatever the temperature. Of several teachers t is the log of their mean prediction. The predictions are
    a table made once, without augmentation; `indices` says which of its entries a batch has. In evaluation mode
    `indices` may be left out: the total is then the cross entropy with the labels.

    Over a corpus an example is a target token, given the right words before it (Kim, Rush 2016, word-level
    distillation). There is no augmentation, so the teacher says the same of a token in every epoch: asked once it costs
    one pass over the corpus, run alongside the student it would cost one every epoch. A table of all logits would be
    6.9 GB for 430,000 tokens and 4,000 labels. So ``softmax(t / tau)`` is kept by its `top_k` largest entries in
    float16, with their labels, and what they leave of 1 is spread evenly: 55 MB. For 40 million tokens it is 5 GB, in a
    file of the run folder that the system maps into memory as it is read.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        teacher_logits: The folder of the finished run that is the teacher, or of several. In Python: its logits [R, C]
            for every training example, or a `SoftLabelTable`; None where the objective is to predict only. No saved
            model carries them.
        temperature: tau, how soft both outputs are made; > 0.
        teacher_weight: w, the share of the teacher in the loss, in [0, 1].
        uniform_weight: u, the share of the uniform component, in [0, 1 - w].
        top_k: Entries kept of the teacher's softened outputs, see above. None: of labelled examples the logits, all of
            them and exact, 4 bytes each; of a corpus's tokens 32, and all of them up to 256 labels.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range, or the logits are not finite or of another number of labels.

    Example:
        >>> import torch
        >>> objective = Distillation(8, 3, teacher_logits=torch.randn(10, 3), temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), indices=torch.tensor([7, 0, 9, 2]))
        >>> torch.allclose(terms.total, 0.1 * terms.output + 0.9 * 2.0**2 * terms.teacher)
        True

    Attributes:
        teacher_table: The teacher's softened predictions where they are kept by their largest entries, else None. It
            is no buffer and does not move with the module: a table of gigabytes stays in its file.
    """

    # Not in checkpoints either: it never changes, and a run folder holds it once.
    teacher_logits: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        teacher_logits: Tensor | SoftLabelTable | None,
        temperature: float = 4.0,
        teacher_weight: float = 0.9,
        uniform_weight: float = 0.0,
        top_k: int | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        if isinstance(teacher_logits, Tensor):
            shape, wanted = list(teacher_logits.shape), f"must be [examples, {num_labels}], one for each of training"
            fits = len(shape) == 2 and shape[1] == num_labels
            errors.require(fits, "teacher_logits", shape, wanted)
            finite = not fits or bool(torch.isfinite(teacher_logits).all())
            errors.require(finite, "teacher_logits", "inf or nan", "must be finite")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= teacher_weight <= 1, "teacher_weight", teacher_weight, "must be in [0, 1]")
        left = 1 - min(teacher_weight, 1) + 1e-9
        errors.require(
            0 <= uniform_weight <= left, "uniform_weight", uniform_weight, "must be in [0, 1 - teacher_weight]"
        )
        errors.whole("top_k", top_k, least=1, optional=True)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.temperature = temperature
        self.teacher_weight = teacher_weight
        self.uniform_weight = uniform_weight
        self.teacher_table = teacher_logits if isinstance(teacher_logits, SoftLabelTable) else None
        kept = None
        if isinstance(teacher_logits, Tensor):
            logits = teacher_logits.detach()
            if top_k is None:
                kept = logits.clone()
            else:
                entries = kept_entries(num_labels, top_k)
                self.teacher_table = SoftLabelTable.of_logits(logits, temperature=temperature, top_k=entries)
        self.register_buffer("teacher_logits", kept, persistent=False)

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> DistillationTerms:
        """Computes the terms; see `Objective.forward`.

        Raises:
            ValueError: In training, when there is no teacher, or `indices` is None; when `indices` is not as the
                labels are, or not of the teacher's table.
        """
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        logits = full_precision(self.output(examples.hidden))
        log_p = log_softmax(logits)
        output = examples.mean(cross_entropy(log_p, examples.labels))
        uniform = examples.mean(uniform_cross_entropy(log_p))
        if indices is None and not self.training:
            return DistillationTerms(total=output, output=output, teacher=torch.zeros_like(output), uniform=uniform)
        places = self._places(indices, labels, examples.counts)
        teacher = examples.mean(self._divergence(places, log_softmax(logits / self.temperature)))
        total = max(0.0, 1 - self.teacher_weight - self.uniform_weight) * output
        total = total + self.teacher_weight * self.temperature**2 * teacher + self.uniform_weight * uniform
        return DistillationTerms(total=total, output=output, teacher=teacher, uniform=uniform)

    def _places(self, indices: Tensor | None, labels: Tensor, counts: Tensor) -> Tensor:
        """Returns the indices [N] of the examples."""
        table = self.teacher_logits if self.teacher_table is None else self.teacher_table.values
        if table is None:
            raise ValueError("`teacher_logits` must be given to train, got None: this objective can predict only")
        reason = "the teacher predicts each example"
        return checked_indices(indices, labels, counts, num_examples=table.shape[0], reason=reason)

    def _divergence(self, places: Tensor, log_p: Tensor) -> Tensor:
        """Returns KL(teacher || student) [n] of softened outputs, for log p [n, C] of the student."""
        if self.teacher_table is not None:
            targets = self.teacher_table.at(places, dtype=log_p.dtype)
            return soft_cross_entropy(targets, log_p) - entropy(targets, self.num_labels)
        assert self.teacher_logits is not None  # _places has seen to it
        log_taught = log_softmax(self.teacher_logits[places].to(log_p.dtype) / self.temperature)
        return (log_taught.exp() * (log_taught - log_p)).sum(dim=-1)
