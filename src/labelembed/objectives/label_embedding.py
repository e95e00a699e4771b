"""Label Embedding Network: the labels' similarities, learned with the network (Sun et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self, Unpack

import torch
from torch import Tensor, nn

from labelembed.distributed import global_count
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import IMPLEMENTATIONS, Implementation, LabelEmbeddingTerms, chunked, takes_chunks
from labelembed.losses import reference as losses
from labelembed.objectives.base import CommonArguments, Objective
from labelembed.objectives.embeddings import CompressedEmbedding, FixedEmbedding, FullEmbedding
from labelembed.objectives.examples import Examples

# Where the paper (eq. 14) and the code published with it differ. The paper states no reduction of the hinge;
# the published code adds 1e-8 to the count of right examples, which float32 cannot show and which is left out.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"output_weight": 1.0, "target_weight": 1.0, "uniform_weight": 0.0, "hinge_reduction": "mean"},
    "published_code": {"output_weight": 0.5, "target_weight": 0.5, "uniform_weight": 0.0, "hinge_reduction": "sum"},
    # Not in the paper: the learned similarity with the uniform component of label smoothing, with the weights measured
    # in docs/results.md.
    "mixture": {"output_weight": 0.2, "target_weight": 0.5, "uniform_weight": 0.3, "hinge_reduction": "mean"},
}
# A dense [C, C] table is 16 MB at so many labels, and a gigabyte at 16,000.
DENSE_GEOMETRY_LABELS = 2_000
# E, its gradient and Adam's two moments take 16 C^2 bytes: 6.4 GB at so many labels.
FULL_LABELS = 20_000
# `progress` counts in millionths, since a micro-batch is a part of a step.
_STEP, _ROUNDING = 1_000_000, 10_000


class LabelEmbedding(Objective):
    """Learns which labels are similar, and trains on those soft targets (Sun et al. 2017).

    With hidden states h, two output layers ``z1 = o1(h)``, ``z2 = o2(sg(h))``, and the label's embedding ``e = E[y]``
    (`full`, E [C, C] starting as the identity) or ``e = relu(A[y] B)`` (`compressed`, eq. 16)::

        output     CE(onehot(y), z1)                       trains h and o1    (eq. 7)
        target     CE(softmax(sg(e)), z1)                  trains h and o1    (eq. 13)
        auxiliary  CE(onehot(y), z2)                       trains o2          (eq. 8)
        hinge      max(0, softmax(z2)[y] - limit)          trains o2          (eq. 12)
        embedding  CE(softmax(sg(z2) / temperature), e)    trains E, or A, B  (eq. 11)
        uniform    CE(1/C, z1)                             trains h and o1    (not in the paper)

    Terms are means over the examples that count, with two exceptions: `embedding` is a mean over those of the batch
    that o2 gets right (of a micro-batch by itself, times its share of the step), and with ``hinge_reduction="sum"`` the
    hinge is a sum. The total is their weighted sum (eq. 14). sg stops the gradient: at h as in the paper, in eq. 11 and
    13 as in the published code, where the paper says nothing.

    With ``auxiliary="shared"`` there is no o2: E learns from sg(z1), on the examples that o1 gets right, and
    `auxiliary` and `hinge` are 0 (not in the paper; a step costs little more than one-hot's). With a saved
    `LabelGeometry`, E is fixed, o2 is not built and ``total = output_weight output + target_weight target`` (eq. 17).

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        embedding: `full`, `compressed`, or a saved LabelGeometry of the same number of labels (fixed).
        rank: K, the compressed embedding's size (the paper's h); 100 is the paper's example.
        auxiliary: `separate`: a second output layer teaches E (the paper); `shared`: the first does.
        initial_scale: What E starts as: a number times the identity. With 1 (the paper's) softmax(E[y]) starts with
            e / (e + C - 1) on y, almost uniform over many labels: 0.23 of 10, 0.03 of 100. `log`: log C + 1.5, with
            which a full E starts with about 0.8 on y for any C. Compressed: ``B = A^T`` with rows of that length, and
            less on y the lower the rank (2,000 labels: 0.3 at rank 16, 0.7 at 100). None: 1, and compressed at random.
        embedding_learning_rate: Factor on the optimiser's learning rate for E, A and B.
        preset: `paper` (weights 1 and 1, hinge averaged), `published_code` (weights 0.5 and 0.5, hinge summed over
            the batch), or `mixture` (not in the paper: 0.2 of the label itself, 0.5 learned, 0.3 uniform). The weights
            of `paper` sum to 2: with SGD twice the learning rate of weights that sum to 1, and half the weight decay
            beside the loss. Its hinge slows o2 and cannot hold it at the limit: its slope in the right label's
            probability p is 1, that of the cross entropy -1 / p.
        temperature: tau, how soft the distribution is that E learns from; > 0.
        confidence_limit: alpha, the probability of the right label above which the hinge acts; in [0, 1].
        hinge_reduction: `mean` or `sum` over the examples; None: the preset's.
        output_weight: Weight of `output`; None: the preset's.
        target_weight: Weight of `target`; None: the preset's.
        uniform_weight: Weight of `uniform`; None: the preset's. With weights that sum to 1 the network is trained on
            ``output_weight onehot + target_weight softmax(E[y]) + uniform_weight / C``.
        target_warmup_steps: Training steps for which `target` has no weight, while E is still noise (20,000 of
            about 50,000 in the published text code). A number between 0 and 1 is that share of the run's steps, which
            `start_epoch` must be told before the first.
        impl: `reference`: the plain lines; `chunked`: some examples' logits at a time, where `total` alone can be
            differentiated, once; `auto`: chunks from 1,000 labels on.
        common: What every objective takes, see `Objective`; `bias` and `output_std` are of both output layers.

    Raises:
        ValueError: When an argument is out of its range, the geometry has another number of labels, or a full E is
            wanted for more than 20,000.

    Example:
        >>> import torch
        >>> objective = LabelEmbedding(8, 3, temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    presets = PRESETS
    progress: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        embedding: Literal["full", "compressed"] | LabelGeometry = "full",
        rank: int = 100,
        auxiliary: Literal["separate", "shared"] = "separate",
        initial_scale: float | Literal["log"] | None = None,
        embedding_learning_rate: float = 1.0,
        preset: Literal["paper", "published_code", "mixture"] = "paper",
        temperature: float = 2.0,
        confidence_limit: float = 0.9,
        hinge_reduction: Literal["mean", "sum"] | None = None,
        output_weight: float | None = None,
        target_weight: float | None = None,
        uniform_weight: float | None = None,
        target_warmup_steps: int | float = 0,
        impl: Implementation = "auto",
        **common: Unpack[CommonArguments],
    ) -> None:
        given: dict[str, Any] = {
            "output_weight": output_weight,
            "target_weight": target_weight,
            "uniform_weight": uniform_weight,
            "hinge_reduction": hinge_reduction,
        }
        numbers = dict(PRESETS.get(preset, PRESETS["paper"]))
        numbers |= {name: value for name, value in given.items() if value is not None}
        errors = ArgumentErrors()
        if isinstance(embedding, LabelGeometry):
            rule = f"must have {num_labels} labels as the data has"
            errors.require(len(embedding) == num_labels, "embedding", len(embedding), rule)
        else:
            errors.choice("embedding", embedding, ("full", "compressed"))
            rule = f"must be 'compressed' for more than {FULL_LABELS:,} labels: E takes 16 C^2 bytes to train"
            errors.require(embedding != "full" or num_labels <= FULL_LABELS, "embedding", embedding, rule)
        errors.whole("rank", rank, least=1)
        errors.choice("auxiliary", auxiliary, ("separate", "shared"))
        if isinstance(initial_scale, str):
            errors.choice("initial_scale", initial_scale, ("log",))
        elif initial_scale is not None:
            errors.require(initial_scale > 0, "initial_scale", initial_scale, "must be > 0, 'log' or None")
        rate = embedding_learning_rate
        errors.require(rate > 0, "embedding_learning_rate", rate, "must be > 0")
        errors.choice("preset", preset, tuple(PRESETS))
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= confidence_limit <= 1, "confidence_limit", confidence_limit, "must be in [0, 1]")
        errors.choice("impl", impl, IMPLEMENTATIONS)
        errors.choice("hinge_reduction", numbers["hinge_reduction"], ("mean", "sum"))
        for name in ("output_weight", "target_weight", "uniform_weight"):
            errors.require(numbers[name] >= 0, name, numbers[name], "must be >= 0")
        is_share = 0 < target_warmup_steps < 1
        is_whole = is_share or (target_warmup_steps >= 0 and float(target_warmup_steps).is_integer())
        rule = "must be a whole number of steps >= 0, or a share of the run between 0 and 1"
        errors.require(is_whole, "target_warmup_steps", target_warmup_steps, rule)
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.output_weight: float = numbers["output_weight"]
        self.target_weight: float = numbers["target_weight"]
        self.uniform_weight: float = numbers["uniform_weight"]
        self.hinge_reduction: str = numbers["hinge_reduction"]
        self.temperature = temperature
        self.confidence_limit = confidence_limit
        self.embedding_learning_rate = embedding_learning_rate
        self.impl = impl
        self.target_warmup_steps = target_warmup_steps if is_share else int(target_warmup_steps)
        # The step at which the warm-up ends; of a share nobody knows it before `start_epoch`.
        self._warmup_end: int | None = None if is_share else int(target_warmup_steps)
        self.register_buffer("progress", torch.zeros((), dtype=torch.int64))
        self.learns_embedding = not isinstance(embedding, LabelGeometry)
        separate = self.learns_embedding and auxiliary == "separate"
        self.auxiliary = self._new_layer(bias=self.output.bias is not None) if separate else None
        self.embedding: FullEmbedding | CompressedEmbedding | FixedEmbedding
        if isinstance(embedding, LabelGeometry):
            self.embedding = FixedEmbedding(embedding)
        elif embedding == "full":
            self.embedding = FullEmbedding(num_labels, initial_scale=initial_scale)
        else:
            self.embedding = CompressedEmbedding(num_labels, rank, initial_scale=initial_scale)

    @classmethod
    def from_linear(cls, layer: nn.Linear, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> C] as o1; o2 starts as a copy of it.

        Args:
            layer: The layer to own from now on; device and dtype follow it.
            arguments: The objective's own keyword arguments.
        """
        objective = super().from_linear(layer, **arguments)
        if objective.auxiliary is not None:
            # It learns even where the layer is frozen: E learns from what o2 gets right.
            objective.auxiliary = copy.deepcopy(objective.output).requires_grad_(True)
        return objective

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> LabelEmbeddingTerms:
        """Computes the terms; see `Objective.forward`. In chunks only `total` can be differentiated."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        h, y = examples.hidden, examples.labels
        target_weight = self._target_weight_now(examples, num_items_in_step)
        layers = [layer for layer in (self.output, self.auxiliary) if layer is not None]
        if takes_chunks(self.impl, self.num_labels, *layers):
            return self._in_chunks(examples, target_weight)
        z1, e = self.output(h), self.embedding(y)
        log_p1, log_e = losses.log_softmax(z1), losses.log_softmax(e)
        uniform = auxiliary = hinge = embedding = log_p1.new_zeros(())

        output = examples.mean(losses.cross_entropy(log_p1, y))  # eq. 7
        target = examples.mean(losses.target_cross_entropy(log_e, log_p1))  # eq. 13
        total = self.output_weight * output + target_weight * target
        if self.uniform_weight > 0:
            uniform = examples.mean(losses.uniform_cross_entropy(log_p1))
            total = total + self.uniform_weight * uniform
        z2 = z1
        if self.auxiliary is not None:
            z2 = self.auxiliary(h.detach())
            log_p_true = -losses.cross_entropy(losses.log_softmax(z2), y)
            auxiliary = examples.mean(-log_p_true)  # eq. 8
            hinge = examples.mean(losses.hinge(log_p_true, self.confidence_limit))  # eq. 12
            hinge = hinge * self._hinge_weight(examples)
            total = total + auxiliary + hinge
        if self.learns_embedding:
            right = z2.argmax(dim=-1) == y
            entropies = losses.embedding_cross_entropy(z2, log_e, self.temperature)  # eq. 10, 11
            embedding = self._mean_over_right(entropies, right, examples)
            total = total + embedding  # eq. 14; without o2 and E's own term eq. 17
        return LabelEmbeddingTerms(total, output, target, auxiliary, hinge, embedding, uniform)

    def _hinge_weight(self, examples: Examples) -> Tensor | float:
        """Returns what the mean hinge is multiplied with: a sum is the mean times the weight of the step."""
        return 1.0 if self.hinge_reduction == "mean" else examples.total_weight

    def _mean_over_right(self, values: Tensor, right: Tensor, examples: Examples) -> Tensor:
        """Returns the mean of values [N] over the examples that are right [N], times the batch's share of the step.

        How many examples of a whole step are right is not known before its last micro-batch.
        """
        scales = torch.where(right, examples.scales, 0)
        share, of_right = global_count(torch.stack([examples.scales.sum(), scales.sum()]), group=examples.group)
        factor: Tensor = share / of_right.clamp_min(1e-30)  # where none is right the sum is 0
        return torch.dot(values, scales) * factor

    def _in_chunks(self, examples: Examples, target_weight: Tensor | float) -> LabelEmbeddingTerms:
        """Computes the terms without all logits at once."""
        settings = chunked.Settings(
            output_weight=self.output_weight,
            target_weight=target_weight,
            uniform_weight=self.uniform_weight or None,
            hinge_weight=self._hinge_weight(examples),
            temperature=self.temperature,
            confidence_limit=self.confidence_limit,
            teaches=self.learns_embedding,
            global_sum=partial(global_count, group=examples.group),
        )
        return chunked.label_embedding_terms(
            examples.hidden,
            examples.labels,
            examples.scales,
            (self.output.weight, self.output.bias),
            None if self.auxiliary is None else (self.auxiliary.weight, self.auxiliary.bias),
            self.embedding.factors(),
            settings,
        )

    @property
    def accumulation_warning(self) -> str | None:
        """Why micro-batches are not one batch; see `Objective.accumulation_warning`."""
        if not self.learns_embedding:
            return None
        return "E learns from a mean over the examples that are predicted right, and each micro-batch has its own"

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Tells of how many steps `target_warmup_steps` is a share; see `Objective.start_epoch`."""
        super().start_epoch(epoch, epochs, steps)
        if not isinstance(self.target_warmup_steps, int):
            self._warmup_end = round(self.target_warmup_steps * epochs * steps)

    def _target_weight_now(self, examples: Examples, num_items_in_step: Tensor | int | None) -> Tensor | float:
        """Returns the weight of `target` in this step, and counts the step where that depends on its number."""
        if self.target_warmup_steps == 0:
            return self.target_weight
        if self._warmup_end is None:
            if self._updates_state:
                raise RuntimeError(
                    f"`target_warmup_steps` {self.target_warmup_steps} is a share of the run's steps, whose number "
                    "is not known: call objective.start_epoch(epoch, epochs, steps) before each epoch"
                )
            return 0.0
        begun = self.progress + _ROUNDING >= self._warmup_end * _STEP
        if self._updates_state:
            # A new tensor: the old one stands in `begun`.
            self.progress = self.progress + (
                _STEP if num_items_in_step is None else (examples.step_share() * _STEP).round().long()
            )
        return self.target_weight * begun.to(examples.weights.dtype)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups in which E, A and B are not decayed.

        Weight decay pulls softmax(E) towards uniform, which would be a hidden label smoothing. With
        `embedding_learning_rate` the embedding's group has a `learning_rate_factor`.

        Args:
            weight_decay: For the output layers.
        """
        learned = list(self.embedding.parameters())
        layers = [layer for layer in (self.output, self.auxiliary) if layer is not None]
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": weight_decay}]
        if learned:
            groups.append({"params": learned, "weight_decay": 0.0})
            if self.embedding_learning_rate != 1:
                groups[-1]["learning_rate_factor"] = self.embedding_learning_rate
        return groups

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns E as similarities; of a compressed one above 2,000 labels the rows of A as vectors, by cosine."""
        names, source = self._names(names), type(self).__name__
        if isinstance(self.embedding, CompressedEmbedding) and self.num_labels > DENSE_GEOMETRY_LABELS:
            vectors = self.embedding.left.float().cpu().clone()
            return LabelGeometry(names, vectors=vectors, metric="cosine", source=source)
        return LabelGeometry(names, similarities=self.embedding.table().float().cpu().clone(), source=source)
