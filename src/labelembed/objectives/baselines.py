"""The baselines that learn nothing about labels: cross entropy, label smoothing, confidence penalty, teacher-free."""

from __future__ import annotations

from typing import NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses.linear import IMPLEMENTATIONS, Implementation, smoothed_cross_entropy
from labelembed.losses.reference import cross_entropy, kl_divergence, log_softmax, weighted_sum
from labelembed.objectives.base import CommonArguments, Objective, OutputTerms, StepArguments


class LabelSmoothingTerms(NamedTuple):
    """Terms of `LabelSmoothing`: scalars, not weighted; with smoothing 0 `uniform` is 0."""

    total: Tensor
    output: Tensor
    uniform: Tensor


class ConfidencePenaltyTerms(NamedTuple):
    """Terms of `ConfidencePenalty`: scalars, `entropy` not weighted and with its own sign."""

    total: Tensor
    output: Tensor
    entropy: Tensor


class TeacherFreeTerms(NamedTuple):
    """Terms of `TeacherFree`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor


class OneHot(Objective):
    """Cross entropy with the one-hot label, the baseline (Sun et al. 2017, eq. 4).

    ``total = output = CE(onehot(y), z)``, a mean over the examples that count.

    Relations: `LabelSmoothing` with smoothing 0. When: as the baseline of every comparison.

    Args:
        impl: `reference`: plain lines; `chunked`: never the logits of all examples at once, and only `total` can be
            differentiated, once; `auto`: chunks from 1,000 labels on.

    Example:
        >>> import torch
        >>> objective = OneHot(8, 3)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, -100]))
        >>> bool(terms.total == terms.output)
        True
    """

    def __init__(
        self, hidden_size: int, num_labels: int, *, impl: Implementation = "auto", **common: Unpack[CommonArguments]
    ) -> None:
        errors = ArgumentErrors()
        errors.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.impl = impl

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> OutputTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        h, y, w = examples.hidden, examples.labels, examples.loss_weights
        terms = smoothed_cross_entropy(self.output, h, y, w, smoothing=0.0, impl=self.impl)
        return OutputTerms(total=terms.total, output=terms.total)


class LabelSmoothing(Objective):
    """Cross entropy with the one-hot label mixed with a uniform component (Szegedy et al. 2016).

    With s = `smoothing`, the same as ``F.cross_entropy(..., label_smoothing=s)``::

        output   CE(onehot(y), z)
        uniform  CE(1/C, z)
        total    (1 - s) output + s uniform

    Relations: with s = 0 cross entropy; `OnlineLabelSmoothing` with a uniform S, and `TeacherFree` as published, are
    label smoothing. When: always, tuned, as the control that a learned target must beat.
    With a class `weight` an example's uniform component has the weight of its class; torch weights its C summands.

    Args:
        smoothing: s, weight of the uniform component, in [0, 1].
        impl: See `OneHot`.

    Example:
        >>> import torch
        >>> objective = LabelSmoothing(8, 3, smoothing=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, 0.8 * terms.output + 0.2 * terms.uniform)
        True
    """

    citation = "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna 2016: Rethinking the Inception Architecture, CVPR"

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        smoothing: float = 0.1,
        impl: Implementation = "auto",
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.require(0 <= smoothing <= 1, "smoothing", smoothing, "must be in [0, 1]")
        errors.choice("impl", impl, IMPLEMENTATIONS)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.smoothing = smoothing
        self.impl = impl

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> LabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        h, y, w = examples.hidden, examples.labels, examples.loss_weights
        terms = smoothed_cross_entropy(self.output, h, y, w, smoothing=self.smoothing, impl=self.impl)
        return LabelSmoothingTerms(total=terms.total, output=terms.output, uniform=terms.uniform)


class ConfidencePenalty(Objective):
    """Cross entropy minus a part of the output's entropy (Pereyra et al. 2017, "MaxEntReg").

    With p = softmax(z), in nats::

        output   CE(onehot(y), z)
        entropy  -sum_c p_c log p_c
        total    output - beta entropy

    Relations: label smoothing penalises KL(1/C || p), this KL(p || 1/C). When: as a control beside label smoothing.

    Args:
        penalty_weight: beta, how much a nat of entropy takes off the loss; >= 0.

    Example:
        >>> import torch
        >>> objective = ConfidencePenalty(8, 3, penalty_weight=0.2)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, terms.output - 0.2 * terms.entropy)
        True
    """

    citation = "Pereyra, Tucker, Chorowski, Kaiser, Hinton 2017: Regularizing Neural Networks by Penalizing Confidence"

    def __init__(
        self, hidden_size: int, num_labels: int, *, penalty_weight: float = 0.1, **common: Unpack[CommonArguments]
    ) -> None:
        errors = ArgumentErrors()
        errors.require(penalty_weight >= 0, "penalty_weight", penalty_weight, "must be >= 0")
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.penalty_weight = penalty_weight

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> ConfidencePenaltyTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        log_p = log_softmax(self.output(examples.hidden))
        output = cross_entropy(log_p, examples.labels, examples.loss_weights)
        entropy = examples.mean(-(log_p.exp() * log_p).sum(dim=-1))
        total = weighted_sum((1.0, -self.penalty_weight), (output, entropy))
        return ConfidencePenaltyTerms(total=total, output=output, entropy=entropy)


class TeacherFree(Objective):
    """Distillation from a virtual teacher (Yuan et al. 2020, "Tf-KD reg", first published in 2019; "TFReg").

    The teacher p^d gives the right label the probability a and every other label ``(1 - a) / (C - 1)``::

        output   CE(onehot(y), z)
        teacher  KL(softmax(p^d / tau) || softmax(z))
        total    (1 - w) output + w teacher

    As in the published code, p^d is softened by a softmax over the probabilities themselves, and the network's output
    not at all; the sum over labels is that code with its multiplier C (100 for CIFAR-100).

    Relations: this *is* label smoothing: with t the softened teacher's share of the right label, the total and that of
    ``LabelSmoothing(smoothing=w (1 - t) C / (C - 1))`` differ by a constant. With the defaults and 100 labels the
    smoothing is 0.09995. When: to reproduce it.

    Args:
        num_labels: C, number of labels; with one label the teacher gives it all.
        true_probability: a, the teacher's probability of the right label; in (0, 1].
        temperature: tau, how soft the teacher is made; > 0.
        teacher_weight: w (the paper's alpha), the share of the teacher in the loss, in [0, 1].

    Example:
        >>> import torch
        >>> objective = TeacherFree(8, 3, teacher_weight=0.3)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, 0.7 * terms.output + 0.3 * terms.teacher)
        True
    """

    citation = "Yuan, Tay, Li, Wang, Feng 2020: Revisiting Knowledge Distillation via Label Smoothing, CVPR"

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        true_probability: float = 0.99,
        temperature: float = 20.0,
        teacher_weight: float = 0.1,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.require(0 < true_probability <= 1, "true_probability", true_probability, "must be in (0, 1]")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= teacher_weight <= 1, "teacher_weight", teacher_weight, "must be in [0, 1]")
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.true_probability = true_probability
        self.temperature = temperature
        self.teacher_weight = teacher_weight

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> TeacherFreeTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        log_p = log_softmax(self.output(examples.hidden))
        output = cross_entropy(log_p, examples.labels, examples.loss_weights)
        other = (1 - self.true_probability) / max(self.num_labels - 1, 1)
        hard = torch.full_like(log_p, other).scatter_(1, examples.labels[:, None], self.true_probability)
        teacher = kl_divergence(log_softmax(hard / self.temperature).exp(), log_p, examples.loss_weights)
        total = weighted_sum((1 - self.teacher_weight, self.teacher_weight), (output, teacher))
        return TeacherFreeTerms(total=total, output=output, teacher=teacher)
