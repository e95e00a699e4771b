"""Online label smoothing: soft targets from the network's mean prediction of each label's examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.distributed import class_sums
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import reference as losses
from labelembed.objectives.base import CommonArguments, Objective, StepArguments, TrainingExamples, with_preset
from labelembed.objectives.examples import Examples

PRESETS: dict[str, dict[str, Any]] = {
    "moving_average": {"similarity_weight": 0.5, "uniform_weight": 0.2},
    "published": {"similarity_weight": 0.5, "uniform_weight": 0.0},
}
# S [C, C] takes 256 MB, and as much again at each step.
MOST_LABELS = 8_000


class OnlineLabelSmoothingTerms(NamedTuple):
    """Terms of `OnlineLabelSmoothing`: scalars, not weighted; `uniform` is 0 where it takes no part."""

    total: Tensor
    output: Tensor
    similarity: Tensor
    uniform: Tensor


class OnlineLabelSmoothing(Objective):
    """Trains on the class means of the network's own predictions (after Zhang et al. 2021; the default is ours).

    ``S[c]`` is the mean of softmax(z) over the training examples of class c that the network gets right, weighted by
    `sample_weight`; it starts uniform. With a = `similarity_weight`, b = `uniform_weight`::

        output      CE(onehot(y), z)
        similarity  CE(S[y], z)
        uniform     CE(1/C, z)                                   (not in the paper)
        total       (1 - a - b) output + a similarity + b uniform

    `published` (Zhang et al.): S is gathered over an epoch and used in the next, and is uniform in the first; a = 0.5,
    b = 0. It needs `start_epoch` before and `end_epoch` after each epoch, without which it does not train.
    `moving_average`, ours and the default: S follows the network at every step. With n right examples of class c in
    the batch, which count equally, and m their mean prediction, ``S[c] = momentum**n S[c] + (1 - momentum**n) m``;
    the target is 0.3 onehot + 0.5 S[y] + 0.2 / C.

    Relations: with S uniform it is label smoothing of strength a + b; `LabelEmbedding` learns softmax(E[y]) in place
    of S[y]. When: the learned target to try first; better probabilities in long training, and no second head.

    Args:
        num_labels: C; at most 8,000.
        preset: `moving_average` or `published`.
        similarity_weight: a; None: the preset's.
        uniform_weight: b, at most 1 - a; None: the preset's.
        momentum: How much of S[c] an example of class c leaves, in [0, 1]; `published` has none.

    Example:
        >>> import torch
        >>> objective = OnlineLabelSmoothing(8, 3, similarity_weight=0.4, uniform_weight=0.4)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    citation = "Zhang, Jiang, Hou, Wei, Han, Li, Cheng 2021: Delving Deep into Label Smoothing, IEEE TIP"
    learns_labels = True
    training_buffers = ("gathered", "gathered_weight")

    similarities: Tensor
    gathered: Tensor | None
    gathered_weight: Tensor | None

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        preset: Literal["moving_average", "published"] = "moving_average",
        similarity_weight: float | None = None,
        uniform_weight: float | None = None,
        momentum: float = 0.99,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        chosen = with_preset(
            PRESETS, preset, errors, similarity_weight=similarity_weight, uniform_weight=uniform_weight
        )
        a, b = chosen["similarity_weight"], chosen["uniform_weight"]
        errors.require(0 <= a <= 1, "similarity_weight", a, "must be in [0, 1]")
        errors.require(0 <= b <= 1, "uniform_weight", b, "must be in [0, 1]")
        errors.require(a + b <= 1 + 1e-9, "similarity_weight", a + b, "and `uniform_weight` must add up to at most 1")
        errors.require(0 <= momentum <= 1, "momentum", momentum, "must be in [0, 1]")
        rule = f"must be at most {MOST_LABELS:,}: S is [C, C]; take LabelEmbedding with embedding='compressed'"
        errors.require(num_labels <= MOST_LABELS, "num_labels", num_labels, rule)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.preset = preset
        self.similarity_weight: float = a
        self.uniform_weight: float = b
        self.output_weight = max(0.0, 1 - a - b)
        self.momentum = momentum
        is_published = preset == "published"
        self.register_buffer("similarities", torch.full((num_labels, num_labels), 1 / num_labels))
        # Sums over the epoch, for the next one's S.
        self.register_buffer("gathered", torch.zeros(num_labels, num_labels) if is_published else None)
        self.register_buffer("gathered_weight", torch.zeros(num_labels) if is_published else None)
        self._needs_epochs = is_published
        self.accumulation_warning = None if is_published else "S follows the network after every micro-batch"

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> OnlineLabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`. In training mode S then learns from the examples."""
        examples = self._examples(hidden, labels, step)
        log_p = losses.log_softmax(self.output(examples.hidden))
        output = losses.cross_entropy(log_p, examples.labels, examples.loss_weights)
        targets = F.embedding(examples.labels, self.similarities).to(log_p.dtype)
        similarity = losses.soft_cross_entropy(targets, log_p, examples.loss_weights)
        uniform = log_p.new_zeros(())
        if self.uniform_weight > 0:
            uniform = losses.uniform_cross_entropy(log_p, examples.loss_weights)
        weights = self.output_weight, self.similarity_weight, self.uniform_weight
        total = losses.weighted_sum(weights, (output, similarity, uniform))
        if self._updates_state:
            self._learn(log_p.detach(), examples)
        return OnlineLabelSmoothingTerms(total=total, output=output, similarity=similarity, uniform=uniform)

    @torch.no_grad()
    def _learn(self, log_p: Tensor, examples: Examples) -> None:
        """Moves S, or what is gathered for the next, by the predictions of the examples that are right."""
        weights = examples.sample_weight * (log_p.max(dim=-1).indices == examples.labels)
        predicted = log_p.exp().to(self.similarities.dtype)
        sums, number = class_sums(predicted, examples.labels, weights, self.num_labels, group=examples.group)
        # New tensors: a backward pass may still read the old ones.
        if self.gathered is None or self.gathered_weight is None:
            keep = (self.momentum**number)[:, None]
            means = sums / number.clamp_min(1e-30)[:, None]
            self.similarities = torch.lerp(means, self.similarities, keep)
        else:
            self.gathered, self.gathered_weight = self.gathered + sums, self.gathered_weight + number

    @torch.no_grad()
    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Takes what was gathered as the next epoch's S; a label that was never right keeps its own."""
        super().end_epoch()
        if self.gathered is None or self.gathered_weight is None:
            return
        weight = self.gathered_weight[:, None]
        means = self.gathered / weight.clamp_min(1e-30)
        self.similarities = torch.where(weight > 0, means, self.similarities)
        self.gathered, self.gathered_weight = torch.zeros_like(self.gathered), torch.zeros_like(self.gathered_weight)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None) -> LabelGeometry:
        """Returns log S as similarities."""
        return self._geometry(names, similarities=self.similarities.clamp_min(1e-12).log())  # 0 stays finite
