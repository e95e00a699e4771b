"""Online label smoothing: soft targets from the network's mean prediction of each label's examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import full_precision
from labelembed.losses.reference import cross_entropy, log_softmax, uniform_cross_entropy
from labelembed.losses.soft_targets import soft_cross_entropy
from labelembed.objectives.base import CommonArguments, Objective, TrainingExamples
from labelembed.objectives.soft_labels import DENSE_LABELS, SimilarityTable

PRESETS: dict[str, dict[str, Any]] = {
    "moving_average": {"similarity_weight": 0.5, "uniform_weight": 0.2},
    "published": {"similarity_weight": 0.5, "uniform_weight": 0.0},
}


class OnlineLabelSmoothingTerms(NamedTuple):
    """Terms of `OnlineLabelSmoothing`: scalars; `uniform` is 0 where it has no part."""

    total: Tensor
    output: Tensor
    similarity: Tensor
    uniform: Tensor


class OnlineLabelSmoothing(Objective):
    """Trains on class means of the network's own predictions: our form, or with `published` Zhang et al.'s (2021).

    ``S[c]`` is the mean of softmax(z / temperature) over the training examples of class c that the network gets right.
    With a = `similarity_weight`, b = `uniform_weight`::

        output      CE(onehot(y), z)
        similarity  CE(S[y], z)
        uniform     CE(1/C, z)                                   (not in the paper)
        total       (1 - a - b) output + a similarity + b uniform

    `published`: S is gathered over an epoch and used in the next, and is uniform in the first; a = 0.5, b = 0. It needs
    `start_epoch` before and `end_epoch` after each epoch, without which it does not train.
    `moving_average` (ours, the default): S follows the network at every step, and the target has a uniform component:
    0.3 onehot + 0.5 S[y] + 0.2 / C. With n right examples of class c in a batch, which count equally, and m the mean of
    their predictions, ``S[c] = keep S[c] + (1 - keep) m``, ``keep = momentum ** n``. The learned similarity says which
    wrong labels are less wrong, the uniform component keeps the network from becoming over-confident.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        preset: `moving_average` or `published`.
        similarity_weight: a; None: the preset's (0.5).
        uniform_weight: b; None: the preset's (0.2 and 0). a + b is at most 1.
        temperature: How soft the predictions are that S is the mean of; > 0.
        momentum: How much of S[c] a right example of class c leaves, in [0, 1]; `published` has none.
        top_k: Entries of S kept a label, the rest spread evenly; None: all up to 2,000 labels, 64 above.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.
        RuntimeError: `published`, in training, when `start_epoch` was never called.

    Example:
        >>> import torch
        >>> objective = OnlineLabelSmoothing(8, 3, similarity_weight=0.4, uniform_weight=0.4)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        preset: Literal["moving_average", "published"] = "moving_average",
        similarity_weight: float | None = None,
        uniform_weight: float | None = None,
        temperature: float = 1.0,
        momentum: float = 0.99,
        top_k: int | None = None,
        **common: Unpack[CommonArguments],
    ) -> None:
        chosen = PRESETS.get(preset, PRESETS["moving_average"])
        similarity_weight = chosen["similarity_weight"] if similarity_weight is None else similarity_weight
        uniform_weight = chosen["uniform_weight"] if uniform_weight is None else uniform_weight
        errors = ArgumentErrors()
        errors.choice("preset", preset, tuple(PRESETS))
        errors.require(0 <= similarity_weight <= 1, "similarity_weight", similarity_weight, "must be in [0, 1]")
        errors.require(0 <= uniform_weight <= 1, "uniform_weight", uniform_weight, "must be in [0, 1]")
        both = similarity_weight + uniform_weight
        errors.require(both <= 1 + 1e-9, "similarity_weight", both, "and `uniform_weight` must add up to at most 1")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= momentum <= 1, "momentum", momentum, "must be in [0, 1]")
        errors.whole("top_k", top_k, least=1, optional=True)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.similarity_weight = similarity_weight
        self.uniform_weight = uniform_weight
        self.output_weight = max(0.0, 1 - both)
        self.temperature = temperature
        self.momentum = None if preset == "published" else momentum
        self.similarities = SimilarityTable(num_labels, top_k=top_k)
        # What is gathered in an epoch for the next.
        published = preset == "published"
        self.gathering = SimilarityTable(num_labels, top_k=top_k, training_only=True) if published else None
        self._ended = True

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Tells the objective that an epoch starts; see `Objective.start_epoch`.

        Raises:
            RuntimeError: `published`, when an earlier epoch was never ended: S would stay as it is.
        """
        if self.gathering is not None and not self._ended and self._epoch is not None and epoch > self._epoch:
            raise RuntimeError(
                f"epoch {self._epoch} was never ended, so that S would stay as it is: call objective.end_epoch() after "
                "each epoch"
            )
        super().start_epoch(epoch, epochs, steps)
        self._ended = False

    @property
    def accumulation_warning(self) -> str | None:
        """Why micro-batches are not one batch; see `Objective.accumulation_warning`."""
        if self.gathering is None:
            return "S follows the network after every micro-batch"
        return "S keeps its largest entries after every micro-batch" if self.gathering.sparse else None

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> OnlineLabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`. In training mode S then learns from the examples.

        Raises:
            RuntimeError: `published`, in training, when `start_epoch` was never called.
        """
        if self.gathering is not None:
            self._require_epoch("label smoothing of strength `similarity_weight`")
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        logits = full_precision(self.output(examples.hidden))
        log_p = log_softmax(logits)
        output = examples.mean(cross_entropy(log_p, examples.labels))
        similarity = examples.mean(soft_cross_entropy(self.similarities.at(examples.labels), log_p))
        total = self.output_weight * output + self.similarity_weight * similarity
        uniform = logits.new_zeros(())
        if self.uniform_weight > 0:
            uniform = examples.mean(uniform_cross_entropy(log_p))
            total = total + self.uniform_weight * uniform
        if self._updates_state:
            with torch.no_grad():
                predicted = log_p.exp() if self.temperature == 1 else (logits / self.temperature).softmax(dim=-1)
                right = examples.counts & (logits.argmax(dim=-1) == examples.labels)
                table = self.similarities if self.gathering is None else self.gathering
                table.update(predicted, examples.labels, right, momentum=self.momentum, group=examples.group)
        return OnlineLabelSmoothingTerms(total=total, output=output, similarity=similarity, uniform=uniform)

    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Takes what was gathered as the next epoch's S; a label that was never right keeps its own."""
        self._ended = True
        if self.gathering is not None:
            self.similarities.take(self.gathering)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns log S as similarities; above 2,000 labels see `Objective.label_geometry`."""
        if self.num_labels > DENSE_LABELS:
            return super().label_geometry(names, class_means=class_means)
        # What float32 rounds to 0 is at least 1e-12: similarities are finite.
        similarities = self.similarities.whole().float().clamp_min(1e-12).log().cpu()
        return LabelGeometry(self._names(names), similarities=similarities, source=type(self).__name__)
