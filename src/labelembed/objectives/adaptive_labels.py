"""Learning with Adaptive Labels: each class's own centroid is its target (Yu, Verma 2022)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.distributed import class_sums
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import distances, full_precision
from labelembed.losses.reference import cross_entropy, log_softmax
from labelembed.objectives.base import Objective, TrainingExamples
from labelembed.objectives.examples import Examples


class AdaptiveLabelsTerms(NamedTuple):
    """Terms of `AdaptiveLabels`: scalars; `repel` is not weighted, and 0 where it has no part."""

    total: Tensor
    output: Tensor
    repel: Tensor


class AdaptiveLabels(Objective):
    """Pulls each example to the centroid of its class, and predicts the nearest one (Yu, Verma 2022).

    With outputs ``z = output(h)`` [N, D] and label vectors ``yhat`` [C, D]::

        yhat_c   mean of z over the examples of class c                        (eq. 1)
        output   CE(onehot(y), softmax(-||z - yhat_c||_2))                     (eq. 2)
        repel    mean over all pairs (i, j) of 1{y_i != y_j} cos(z_i, z_j)     (eq. 3 is the sum)

    ``total = output + repel_weight repel``; `repel` on steps that update (Algorithm 1). The label vectors start as
    one-hot vectors (where D < C as random directions); a class without examples in the batch keeps its vector.

    The examples of a batch are coupled: a larger batch is another objective (the paper: 50 examples a class). Under
    gradient accumulation each micro-batch is a batch and a step of its own, whose `output` and `repel` count by its
    examples. With about one example of a class in a batch the class's mean is the example itself, at a distance of 0:
    the first step warns of it.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        label_dimension: D, length of a label's vector; None: C ("LwAL"). 10 C is the paper's "LwAL10".
        update: What the label vectors are in training: `batch`: the batch's means (the paper); `moving_average`:
            ``momentum yhat + (1 - momentum) mean``; `epoch`: means over the training set, after each epoch.
        momentum: Of the moving average, in [0, 1).
        update_every: k, steps from one update to the next, counted over the run as in the published code (in
            Algorithm 1 the count starts again with each epoch).
        warmup_steps: w, steps of the run before the first update.
        loss: `after_update`: the step's loss goes by the new vectors (the published code); `before_update`: by the
            old ones (Algorithm 1).
        gradient_through_centroids: Whether the loss after an update also moves the examples by way of their means.
        repel_weight: lambda, weight of `repel`. The paper's "+rpl" is 10: of the mean over pairs, which its code takes,
            not of the sum in eq. 3.
        prediction: Vectors that predict after an epoch: `training_set`: means over all training examples, which
            `end_epoch` is given, at the cost of a forward pass; `last`: those of training (the published code).
        bias: Whether the output layer has a bias. Where all label vectors are the batch's means it moves them as it
            moves the outputs, and its gradient is rounding alone, which Adam takes for a direction. It does matter for
            labels absent from the batch, whose vectors stay, for `repel`, and for other updates.
        weight: See `Objective`; the label vectors are means without weights.
        ignore_index: See `Objective`.
        output_std: See `Objective`.

    Raises:
        ValueError: When an argument is out of its range.
        RuntimeError: In training, when `start_epoch` was never called, unless ``prediction="last"`` and `update` is not
            `epoch`.

    Example:
        >>> import torch
        >>> objective = AdaptiveLabels(8, 3, label_dimension=30, repel_weight=10.0)
        >>> objective.start_epoch(0, epochs=1, steps=1)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.logits(torch.randn(5, 8)).shape
        torch.Size([5, 3])
    """

    steps: Tensor
    centroids: Tensor
    prediction_centroids: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        label_dimension: int | None = None,
        update: Literal["batch", "moving_average", "epoch"] = "batch",
        momentum: float = 0.9,
        update_every: int = 1,
        warmup_steps: int = 0,
        loss: Literal["after_update", "before_update"] = "after_update",
        gradient_through_centroids: bool = True,
        repel_weight: float = 0.0,
        prediction: Literal["training_set", "last"] = "training_set",
        weight: Sequence[float] | Tensor | None = None,
        bias: bool = False,
        ignore_index: int | None = -100,
        output_std: float | None = None,
    ) -> None:
        errors = ArgumentErrors()
        errors.whole("label_dimension", label_dimension, least=1, optional=True)
        errors.choice("update", update, ("batch", "moving_average", "epoch"))
        errors.require(0 <= momentum < 1, "momentum", momentum, "must be in [0, 1)")
        errors.whole("update_every", update_every, least=1)
        errors.whole("warmup_steps", warmup_steps, least=0)
        errors.choice("loss", loss, ("after_update", "before_update"))
        errors.require(repel_weight >= 0, "repel_weight", repel_weight, "must be >= 0")
        errors.choice("prediction", prediction, ("training_set", "last"))
        super().__init__(
            hidden_size,
            num_labels,
            output_size=label_dimension,
            weight=weight,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            errors=errors,
        )
        self.update = update
        self.momentum = 0.0 if update == "batch" else momentum
        self.update_every = update_every
        self.warmup_steps = warmup_steps
        self.loss = loss
        self.gradient_through_centroids = gradient_through_centroids
        self.repel_weight = repel_weight
        self.prediction = prediction
        start = torch.eye(num_labels, self.output_size)
        if self.output_size < num_labels:
            start = F.normalize(torch.randn(num_labels, self.output_size), dim=1)
        self.register_buffer("centroids", start)
        self.register_buffer("prediction_centroids", start.clone())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._steps = 0
        self._batch_seen = False

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D]; its width is the label dimension, and a bias stays.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            num_labels: C; must be given, since any width can be the label dimension.
            arguments: The objective's own keyword arguments.

        Raises:
            ValueError: `num_labels` is missing.
        """
        if isinstance(layer, nn.Linear):
            if num_labels is None:
                width = f"the layer's {layer.out_features} outputs are the label dimension"
                raise ValueError(f"`num_labels` must be given, got None: {width}, which is not the number of labels")
            arguments.setdefault("label_dimension", layer.out_features)
        return super().from_linear(layer, num_labels=num_labels, **arguments)

    @property
    def accumulation_warning(self) -> str | None:
        """Why a micro-batch is a batch: the label vectors are means over it, and `repel` is over its pairs."""
        if self.update == "epoch" and self.repel_weight == 0:
            return None
        return "the label vectors are means over the examples of a batch, and the repel term is over their pairs"

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> AdaptiveLabelsTerms:
        """Computes the terms; see `Objective.forward`.

        In training mode the label vectors move; in evaluation mode the loss goes by those that predict.
        """
        if self.update == "epoch" or self.prediction == "training_set":
            self._require_epoch("without the means over the training set")
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        z = full_precision(self.output(examples.hidden))
        repel = z.new_zeros(())
        updates = self.training and self._is_update()
        centroids = self.centroids if self.training else self.prediction_centroids
        if updates and self.update != "epoch":
            moved = self._moved(z if self.gradient_through_centroids else z.detach(), examples)
            if self._updates_state:
                self._keep(moved)
            if self.loss == "after_update":
                centroids = moved
        if updates and self.repel_weight > 0:
            repel = self._repel(z, examples)
        output = examples.mean(cross_entropy(log_softmax(-distances(z, centroids)), examples.labels))
        total = output if self.repel_weight == 0 else output + self.repel_weight * repel
        return AdaptiveLabelsTerms(total=total, output=output, repel=repel)

    def _is_update(self) -> bool:
        """Tells whether this batch updates, and counts it where it changes state."""
        if self.warmup_steps == 0 and self.update_every == 1:
            return True
        step = self._steps
        if self._updates_state:
            # Counted twice: the buffer goes into checkpoints, and reading the number needs no wait for a GPU.
            self._steps += 1
            self.steps += 1
        return step >= self.warmup_steps and (step - self.warmup_steps) % self.update_every == 0

    def _moved(self, z: Tensor, examples: Examples) -> Tensor:
        """Returns the label vectors after an update with these examples, [C, D], with gradient (eq. 1)."""
        sums, counts = class_sums(z, examples.labels, examples.counts, self.num_labels, group=examples.group)
        if not self._batch_seen and not torch.compiler.is_compiling():
            # Looked at once: the last batch of an epoch may well be small, and on a GPU each look costs a wait.
            self._batch_seen = True
            if self.update == "batch":
                _warn_of_small_batch(counts)
        old = self.centroids.to(z.dtype)
        means = sums / counts.clamp_min(1)[:, None]
        if self.momentum > 0:
            means = self.momentum * old + (1 - self.momentum) * means
        return torch.where(counts[:, None] > 0, means, old)

    @torch.no_grad()
    def _keep(self, centroids: Tensor) -> None:
        # New tensors: the old ones may stand in a graph that is yet to be gone back through.
        self.centroids = centroids.detach().to(self.centroids.dtype)
        self.prediction_centroids = self.centroids.clone()

    def _repel(self, z: Tensor, examples: Examples) -> Tensor:
        """Returns the mean over all pairs of what eq. 3 sums.

        The cosines of all pairs add up to the square of the directions' sum, and so they do within a class.
        """
        directions = z / z.norm(dim=1, keepdim=True).clamp_min(1e-6)
        by_class, counts = class_sums(
            directions, examples.labels, examples.counts, self.num_labels, group=examples.group
        )
        unlike = by_class.sum(dim=0).square().sum() - by_class.square().sum()
        return unlike / counts.sum().clamp_min(1).square() * examples.step_share()

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns minus the distances [..., C] to the label vectors; the softmax is eq. 2."""
        return -distances(self.output(hidden), self.prediction_centroids)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns the label vectors that predict."""
        vectors = self.prediction_centroids.float().cpu().clone()
        return LabelGeometry(self._names(names), vectors=vectors, source=type(self).__name__)

    @torch.no_grad()
    def end_epoch(self, training_examples: TrainingExamples | None = None) -> None:
        """Takes the means over the training set, where they predict or train; see `Objective.end_epoch`.

        A label without examples keeps its vector.

        Raises:
            ValueError: Means over the training set are wanted and `training_examples` is None.
        """
        if self.prediction != "training_set" and self.update != "epoch":
            return
        if training_examples is None:
            raise ValueError(
                "`training_examples` must be given, got None: AdaptiveLabels takes means over the training set after "
                "each epoch; or take prediction='last' (and another update than 'epoch')"
            )
        sums = torch.zeros_like(self.centroids, dtype=torch.float64)
        numbers = sums.new_zeros(self.num_labels)
        for hidden, labels, _ in training_examples():
            examples = self._examples(hidden, labels, None, None)
            counts = examples.counts.double()
            sums.index_add_(0, examples.labels, self.output(examples.hidden).double() * counts[:, None])
            numbers.index_add_(0, examples.labels, counts)
        means = (sums / numbers.clamp_min(1)[:, None]).to(self.centroids.dtype)
        found = torch.where(numbers[:, None] > 0, means, self.centroids)
        if self.update == "epoch":
            self._keep(found)
        else:
            self.prediction_centroids = found

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self._steps = int(self.steps)
        if self.output.bias is None and f"{prefix}output.bias" in state_dict:
            rest[-1].append("AdaptiveLabels has no output bias unless it is asked for; build it with bias=True")


def _warn_of_small_batch(counts: Tensor) -> None:
    """Warns where a batch has fewer than two examples of a class, on average over the classes that it has."""
    examples, classes = int(counts.sum()), int((counts > 0).sum())
    if examples < 2 * classes:
        warnings.warn(
            f"AdaptiveLabels: fewer than two examples a class in the batch ({examples} in {classes} classes), so that "
            "the centroids are about the examples themselves and nothing is learned from the distance to them; take "
            "larger batches (the paper: 50 examples a class) or update='epoch'",
            stacklevel=2,
        )
