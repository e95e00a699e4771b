"""Learning with Adaptive Labels: each class's own centroid is its target (Yu, Verma 2022)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.distributed import class_sums, global_count
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses.reference import cross_entropy, distances, full_precision, log_softmax, weighted_sum
from labelembed.objectives.base import Objective, StepArguments, TrainingExamples
from labelembed.objectives.examples import Examples

PRESETS = ("published_code", "paper")


class AdaptiveLabelsTerms(NamedTuple):
    """Terms of `AdaptiveLabels`: scalars, `repel` not weighted."""

    total: Tensor
    output: Tensor
    repel: Tensor


class AdaptiveLabels(Objective):
    """Pulls each example to the centroid of its class, and predicts the nearest one (Yu, Verma 2022).

    With outputs ``z = output(h)`` [N, D] and label vectors ``yhat`` [C, D]::

        yhat_c   mean of z over the examples of class c                        (eq. 1)
        output   CE(onehot(y), softmax(-||z - yhat_c||_2))                     (eq. 2)
        repel    mean over all pairs (i, j) of 1{y_i != y_j} cos(z_i, z_j)     (eq. 3)
        total    output + repel_weight repel                                   (`repel` on steps that update)

    Eq. 3 of the paper is a sum over pairs; the published code, and this, take the mean, to which the paper's
    lambda = 10 belongs. The label vectors start as one-hot vectors (where D < C as random directions); a class absent
    from the batch keeps its vector.

    `published_code`: the loss of a step follows its update, and its gradient also flows through the means; steps are
    counted over the run. `paper` (Algorithm 1): the loss of a step goes by the vectors before its update; steps are
    counted from the start of each epoch. The examples of a batch are coupled: a larger batch is another objective (the
    paper: 50 examples a class), and under gradient accumulation each micro-batch is a batch and a step of its own.

    Relations: `StaticLabels` has label vectors that are given. When: for a low error in the first epochs; at the end it
    is above that of cross entropy in our runs (docs/adaptive-labels.md).

    Args:
        preset: `published_code` or `paper`, see above.
        label_dimension: D, length of a label's vector; None: C ("LwAL"). 10 C is the paper's "LwAL10".
        update_every: k, steps from one update to the next.
        warmup_steps: w, steps before the first update.
        repel_weight: lambda, weight of `repel`; the paper's "+rpl" is 10.
        prediction: Vectors that predict after an epoch: `training_set`: means over all training examples, which
            `end_epoch` is given, at the cost of a forward pass; `last`: those of training (the published code).
        bias: Whether the output layer has a bias. It moves the means as it moves the outputs, and so matters only for
            classes absent from the batch, and for `repel`.

    Example:
        >>> import torch
        >>> objective = AdaptiveLabels(8, 3, label_dimension=30, repel_weight=10.0)
        >>> objective.start_epoch(0, 10, steps=1)
        >>> terms = objective(torch.randn(6, 8), torch.tensor([0, 1, 2, 1, 0, 2]))
        >>> terms.total.backward()
        >>> objective.logits(torch.randn(5, 8)).shape
        torch.Size([5, 3])
    """

    citation = "Yu, Verma 2022: Improving Model Training via Self-learned Label Representations"
    learns_labels = True
    accumulation_warning = "the label vectors are means over a batch, and the repel term is over its pairs"
    steps: Tensor
    centroids: Tensor
    prediction_centroids: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        preset: Literal["published_code", "paper"] = "published_code",
        label_dimension: int | None = None,
        update_every: int = 1,
        warmup_steps: int = 0,
        repel_weight: float = 0.0,
        prediction: Literal["training_set", "last"] = "training_set",
        bias: bool = False,
        weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = -100,
    ) -> None:
        errors = ArgumentErrors()
        errors.choice("preset", preset, PRESETS)
        errors.whole("label_dimension", label_dimension, least=1, optional=True)
        errors.whole("update_every", update_every, least=1)
        errors.whole("warmup_steps", warmup_steps, least=0)
        errors.require(repel_weight >= 0, "repel_weight", repel_weight, "must be >= 0")
        errors.choice("prediction", prediction, ("training_set", "last"))
        super().__init__(
            hidden_size,
            num_labels,
            output_size=label_dimension,
            weight=weight,
            bias=bias,
            ignore_index=ignore_index,
            errors=errors,
        )
        self.preset = preset
        self.update_every = update_every
        self.warmup_steps = warmup_steps
        self.repel_weight = repel_weight
        self.prediction = prediction
        start = torch.eye(num_labels, self.output_size)
        if self.output_size < num_labels:
            start = F.normalize(torch.randn(num_labels, self.output_size), dim=1)
        self.register_buffer("centroids", start)
        self.register_buffer("prediction_centroids", start.clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._needs_epochs = prediction == "training_set" or preset == "paper"
        self._batch_seen = False

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D], of any label dimension D; see `Objective.from_linear`.

        Raises:
            ValueError: `num_labels` is missing.
        """
        if isinstance(layer, nn.Linear):
            if num_labels is None:
                width = f"the layer's {layer.out_features} outputs are the label dimension"
                raise ValueError(f"`num_labels` must be given, got None: {width}, which is not the number of labels")
            arguments.setdefault("label_dimension", layer.out_features)
        return super().from_linear(layer, num_labels=num_labels, **arguments)

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> AdaptiveLabelsTerms:
        """Computes the terms; in training mode the label vectors move; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        z = full_precision(self.output(examples.hidden))
        repel = z.new_zeros(())
        centroids = (self.centroids if self.training else self.prediction_centroids).to(z.dtype)
        if self.training:
            after = self.steps - self.warmup_steps
            updates = (after >= 0) & (after % self.update_every == 0)  # a tensor, for which nothing waits
            moved = torch.where(updates, self._moved(z, examples), centroids)
            if self._updates_state:
                # New tensors: a backward pass may still read the old ones.
                self.steps = self.steps + 1
                self.centroids = moved.detach().to(self.centroids.dtype)
                self.prediction_centroids = self.centroids.clone()
            if self.preset == "published_code":
                centroids = moved
            if self.repel_weight > 0:
                repel = torch.where(updates, self._repel(z, examples), 0)
        output = cross_entropy(log_softmax(-distances(z, centroids)), examples.labels, examples.loss_weights)
        total = weighted_sum((1.0, self.repel_weight), (output, repel))
        return AdaptiveLabelsTerms(total=total, output=output, repel=repel)

    def _moved(self, z: Tensor, examples: Examples) -> Tensor:
        """Returns the label vectors after an update with these examples, [C, D], with gradient (eq. 1)."""
        sums, weights = class_sums(z, examples.labels, examples.sample_weight, self.num_labels, group=examples.group)
        if not self._batch_seen and not torch.compiler.is_compiling():
            # Once: the last batch of an epoch may well be small, and on a GPU each look waits.
            self._batch_seen = True
            number, classes = int(global_count(examples.mask.sum(), group=examples.group)), int((weights > 0).sum())
            if number < 2 * classes:
                warnings.warn(
                    f"AdaptiveLabels: {number} examples of {classes} classes in a batch, each nearly its own centroid: "
                    "nothing is learned; take larger batches (the paper: 50 examples a class)",
                    stacklevel=2,
                )
        means = sums / weights.clamp_min(1e-30)[:, None]
        return torch.where(weights[:, None] > 0, means, self.centroids.to(z.dtype))

    def _repel(self, z: Tensor, examples: Examples) -> Tensor:
        """Returns the mean over all pairs of what eq. 3 sums, by the squares of sums of directions."""
        directions = z / z.norm(dim=1, keepdim=True).clamp_min(1e-6)
        by_class, weights = class_sums(
            directions, examples.labels, examples.loss_weights, self.num_labels, group=examples.group
        )
        unlike = by_class.sum(dim=0).square().sum() - by_class.square().sum()
        return unlike / weights.sum().clamp_min(1e-15).square() * examples.step_share()

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns minus the distances [..., C] to the label vectors; the softmax is eq. 2."""
        return -distances(self.output(hidden), self.prediction_centroids)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None) -> LabelGeometry:
        """Returns the label vectors that predict."""
        return self._geometry(names, vectors=self.prediction_centroids)

    @torch.no_grad()
    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Takes the means over the training set to predict; a label without examples keeps its vector.

        Raises:
            ValueError: With ``prediction="training_set"``, when `training_examples` is None.
        """
        super().end_epoch()
        if self.preset == "paper":
            self.steps = torch.zeros_like(self.steps)
        if self.prediction == "last":
            return
        if training_examples is None:
            raise ValueError(
                "`training_examples` must be given, got None: AdaptiveLabels takes means over the training set after "
                "each epoch; or take prediction='last'"
            )
        sums = torch.zeros_like(self.centroids, dtype=torch.float64)
        weights = sums.new_zeros(self.num_labels)
        for hidden, labels, _, *weight in training_examples():
            examples = self._examples(hidden, labels, {"sample_weight": weight[0]} if weight else None)
            own = examples.sample_weight.double()
            sums.index_add_(0, examples.labels, self.output(examples.hidden).double() * own[:, None])
            weights.index_add_(0, examples.labels, own)
        means = (sums / weights.clamp_min(1e-30)[:, None]).to(self.centroids.dtype)
        self.prediction_centroids = torch.where(weights[:, None] > 0, means, self.centroids)
