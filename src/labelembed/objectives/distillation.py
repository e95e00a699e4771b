"""Distillation: a trained network's soft outputs for the very examples that are learned."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses import reference as losses
from labelembed.objectives.base import CommonArguments, Objective, StepArguments
from labelembed.objectives.examples import checked_indices


class DistillationTerms(NamedTuple):
    """Terms of `Distillation`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor
    uniform: Tensor


class Distillation(Objective):
    """Learns the labels and a teacher's predictions of each training example (Hinton, Vinyals, Dean 2015).

    With t the teacher's logits of the example::

        output   CE(onehot(y), z)
        teacher  KL(softmax(t / tau) || softmax(z / tau))
        uniform  CE(1/C, z)                                   (not in the paper)
        total    (1 - w - u) output + w tau**2 teacher + u uniform

    With several teachers t is the log of their mean prediction. The predictions are a table made once, without
    augmentation; `indices` are positions in it. In evaluation mode they may be left out: the total is then `output`.

    Relations: with w = u = 0 cross entropy; `Retrospection` is its own teacher. When: an ensemble is trained already.

    Args:
        teacher_logits: The teacher's logits [R, C] for every training example; None: the objective predicts only. A
            recipe names the folder of the finished run, or of several. No saved model carries them.
        temperature: tau, how soft both outputs are made; > 0.
        teacher_weight: w, the share of the teacher in the loss, in [0, 1].
        uniform_weight: u, the share of the uniform component, in [0, 1 - w].

    Example:
        >>> import torch
        >>> objective = Distillation(8, 3, teacher_logits=torch.randn(10, 3), temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]), indices=torch.tensor([7, 0, 9, 2]))
        >>> torch.allclose(terms.total, 0.1 * terms.output + 0.9 * 2.0**2 * terms.teacher)
        True
    """

    citation = "Hinton, Vinyals, Dean 2015: Distilling the Knowledge in a Neural Network"
    teacher_logits: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        teacher_logits: Tensor | None,
        temperature: float = 4.0,
        teacher_weight: float = 0.9,
        uniform_weight: float = 0.0,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        if teacher_logits is not None:
            teacher_logits = torch.as_tensor(teacher_logits).detach().clone()
            shape = list(teacher_logits.shape)
            fits = len(shape) == 2 and shape[1] == num_labels
            rule = f"must be [examples, {num_labels}], logits of each training example"
            errors.require(fits, "teacher_logits", shape, rule)
            finite = not fits or bool(torch.isfinite(teacher_logits).all())
            errors.require(finite, "teacher_logits", "inf or nan", "must be finite")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= teacher_weight <= 1, "teacher_weight", teacher_weight, "must be in [0, 1]")
        left, rule = 1 - min(teacher_weight, 1) + 1e-9, "must be in [0, 1 - teacher_weight]"
        errors.require(0 <= uniform_weight <= left, "uniform_weight", uniform_weight, rule)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.temperature = temperature
        self.teacher_weight = teacher_weight
        self.uniform_weight = uniform_weight
        # Not in checkpoints either: it never changes, and a run folder holds it once.
        self.register_buffer("teacher_logits", teacher_logits, persistent=False)

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> DistillationTerms:
        """Computes the terms; see `Objective.forward`. ValueError: training without a teacher or `indices`."""
        examples = self._examples(hidden, labels, step)
        logits = losses.full_precision(self.output(examples.hidden))
        log_p = losses.log_softmax(logits)
        output = losses.cross_entropy(log_p, examples.labels, examples.loss_weights)
        uniform = losses.uniform_cross_entropy(log_p, examples.loss_weights)
        if indices is None and not self.training:
            return DistillationTerms(total=output, output=output, teacher=torch.zeros_like(output), uniform=uniform)
        if self.teacher_logits is None:
            raise ValueError("`teacher_logits` must be given to train, got None: this objective can predict only")
        rows = checked_indices(
            indices, labels, examples.mask, num_examples=len(self.teacher_logits), reason="the teacher predicts each"
        )
        soft = losses.log_softmax(self.teacher_logits[rows].to(log_p.dtype) / self.temperature).exp()
        teacher = losses.kl_divergence(soft, losses.log_softmax(logits / self.temperature), examples.loss_weights)
        weights = max(0.0, 1 - self.teacher_weight - self.uniform_weight), self.teacher_weight * self.temperature**2
        total = losses.weighted_sum((*weights, self.uniform_weight), (output, teacher, uniform))
        return DistillationTerms(total=total, output=output, teacher=teacher, uniform=uniform)
