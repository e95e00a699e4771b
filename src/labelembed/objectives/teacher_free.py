"""Teacher-free distillation: a made-up teacher that is right and nothing else."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Unpack

from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.losses import full_precision
from labelembed.losses.reference import cross_entropy, log_softmax
from labelembed.objectives.base import CommonArguments, Objective

PRESETS = ("published_code", "paper")


class TeacherFreeTerms(NamedTuple):
    """Terms of `TeacherFree`: scalars, not weighted."""

    total: Tensor
    output: Tensor
    teacher: Tensor


class TeacherFree(Objective):
    """Distillation from a virtual teacher (Yuan et al. 2020, "Tf-KD reg", first published in 2019; "TFReg").

    The teacher gives the right label the probability a and every other label ``(1 - a) / (C - 1)``: p^d.
    ``total = (1 - w) output + w teacher`` with ``output = CE(onehot(y), z)`` and

    - `published_code`: ``teacher = KL(softmax(p^d / tau) || softmax(z))``. The code published with the paper
      softens p^d by a softmax over the probabilities themselves and leaves the network's output as it is. Its
      KL is a mean over examples *and* labels times a multiplier, 100 for the 100 labels of CIFAR-100; so the sum
      over labels that stands here is that code with the multiplier C. This *is* label smoothing: with t the
      softened teacher's share of the right label, total and ``LabelSmoothing(smoothing=w (1 - t) C / (C - 1))``
      differ by a constant. With the default numbers and 100 labels the smoothing is 0.09995.
    - `paper`: ``teacher = KL(softmax(log(p^d) / tau) || softmax(z / tau))``, the equation with the temperature
      on both sides as in any distillation. There is no factor tau squared, neither here nor there: at
      tau = 20 the gradient of this term is small.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels; with one label the teacher gives it all.
        true_probability: a, what the teacher gives the right label; in (0, 1].
        temperature: tau, how soft the teacher is made; > 0.
        teacher_weight: w (the paper's alpha), the share of the teacher in the loss, in [0, 1].
        preset: `published_code` or `paper`, see above.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.

    Example:
        >>> import torch
        >>> objective = TeacherFree(8, 3, teacher_weight=0.3)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> torch.allclose(terms.total, 0.7 * terms.output + 0.3 * terms.teacher)
        True
    """

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        true_probability: float = 0.99,
        temperature: float = 20.0,
        teacher_weight: float = 0.1,
        preset: Literal["published_code", "paper"] = "published_code",
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.require(0 < true_probability <= 1, "true_probability", true_probability, "must be in (0, 1]")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= teacher_weight <= 1, "teacher_weight", teacher_weight, "must be in [0, 1]")
        errors.choice("preset", preset, PRESETS)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.true_probability = true_probability
        self.temperature = temperature
        self.teacher_weight = teacher_weight
        self.preset = preset
        self._true_share = self._softened_share()

    def _softened_share(self) -> float:
        """Returns what the softened teacher gives the right label."""
        if self.num_labels == 1:
            return 1.0
        others = self.num_labels - 1
        other = (1 - self.true_probability) / others
        if self.preset == "published_code":
            difference = self.true_probability - other
        else:
            difference = math.log(self.true_probability / other) if other > 0 else math.inf
        # The softmax of two values, one of them standing `others` times; as a sigmoid it cannot overflow.
        odds = difference / self.temperature - math.log(others)
        return 1 / (1 + math.exp(-odds)) if odds >= 0 else math.exp(odds) / (1 + math.exp(odds))

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> TeacherFreeTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        logits = full_precision(self.output(examples.hidden))
        log_p = log_softmax(logits)
        output = examples.mean(cross_entropy(log_p, examples.labels))
        if self.preset == "paper":
            log_p = log_softmax(logits / self.temperature)
        # The teacher has two values only, so that no table [N, C] of it is made.
        share = self._true_share
        others = max(self.num_labels - 1, 1)
        other = (1 - share) / others
        entropy = -_times_log(share) - others * _times_log(other)
        to_teacher = (share - other) * cross_entropy(log_p, examples.labels) - other * log_p.sum(dim=-1)
        teacher = examples.mean(to_teacher - entropy)
        total = (1 - self.teacher_weight) * output + self.teacher_weight * teacher
        return TeacherFreeTerms(total=total, output=output, teacher=teacher)


def _times_log(probability: float) -> float:
    """Returns p log p, 0 at p = 0."""
    return probability * math.log(probability) if probability > 0 else 0.0
