"""Label Embedding Network: the labels' similarities, learned with the network (Sun et al. 2017)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, Self, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.distributed import global_count
from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses import chunked
from labelembed.losses import reference as losses
from labelembed.losses.linear import IMPLEMENTATIONS, Implementation, takes_chunks
from labelembed.losses.reference import LabelEmbeddingTerms
from labelembed.objectives.base import CommonArguments, Objective, StepArguments, with_preset
from labelembed.objectives.examples import Examples

# Where the paper (eq. 14) and the code published with it differ; the paper states no reduction of the hinge. `mixture`
# is not in the paper, its weights are measured in docs/results.md.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"output_weight": 1.0, "target_weight": 1.0, "uniform_weight": 0.0, "hinge_reduction": "mean"},
    "published_code": {"output_weight": 0.5, "target_weight": 0.5, "uniform_weight": 0.0, "hinge_reduction": "sum"},
    "mixture": {"output_weight": 0.2, "target_weight": 0.5, "uniform_weight": 0.3, "hinge_reduction": "mean"},
}
DENSE_GEOMETRY_LABELS = 2_000  # the geometry of a compressed embedding is [C, C] up to these: 16 MB
FULL_LABELS = 20_000  # E, its gradient and Adam's two moments take 16 C^2 bytes: 6.4 GB


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

    The total is their weighted sum (eq. 14). Terms are means over the examples that count, but `embedding` is a mean
    over those of the batch that o2 gets right (of a micro-batch by itself, times its share of the step), and the hinge
    of `published_code` is a sum. sg stops the gradient: at h as in the paper, in eq. 11 and 13 as in the published
    code, where the paper says nothing.

    With ``auxiliary="shared"`` there is no o2: E learns from sg(z1), on the examples that o1 gets right, and
    `auxiliary` and `hinge` are 0 (not in the paper; a step costs little more than cross entropy's). With a saved
    `LabelGeometry`, E is fixed, o2 is not built and ``total = output_weight output + target_weight target`` (eq. 17).

    Relations: with a fixed E of a large multiple of the identity it is cross entropy, with a constant E label
    smoothing; `OnlineLabelSmoothing` takes class means of the predictions in place of softmax(E). When: to see how
    labels relate, or for better probabilities in long training; with thousands of labels `compressed`.

    Args:
        embedding: `full`, `compressed`, or a saved LabelGeometry of the same number of labels (fixed).
        rank: K, the compressed embedding's size (the paper's h); 100 is the paper's example.
        auxiliary: `separate`: E learns from a second output layer (the paper); `shared`: from the first.
        initial_scale: E starts as a number times the identity. With 1 (the paper's) softmax(E[y]) starts with
            e / (e + C - 1) on y: 0.23 of 10 labels, 0.03 of 100. `log`: log C + 1.5, with which a full E starts with
            about 0.8 on y for any C. Compressed: ``B = A^T`` with rows of that squared length, and less on y the lower
            the rank (2,000 labels: 0.3 at rank 16, 0.7 at 100). None: 1, and compressed at random.
        embedding_learning_rate: Factor on the optimiser's learning rate for E, A and B.
        preset: `paper` (weights 1 and 1, hinge averaged), `published_code` (weights 0.5 and 0.5, hinge summed over
            the batch), or `mixture` (not in the paper: 0.2 of the label, 0.5 learned, 0.3 uniform). The weights of
            `paper` sum to 2, which doubles the learning rate of SGD; its hinge never outweighs cross entropy.
        temperature: tau, how soft the distribution is that E learns from; > 0.
        confidence_limit: alpha, the probability of the right label above which the hinge acts; in [0, 1].
        output_weight: Weight of `output`; None: the preset's.
        target_weight: Weight of `target`; None: the preset's.
        uniform_weight: Weight of `uniform`; None: the preset's.
        target_warmup: Share of the run's epochs, in [0, 1), in which `target` has no weight, while E is still noise
            (in the published text code 20,000 of about 50,000 steps: 0.4). Needs `start_epoch` and `end_epoch`.
        impl: `reference`, `chunked`, `auto`.

    Raises:
        ValueError: The geometry has another number of labels, or a full E has more than 20,000.

    Example:
        >>> import torch
        >>> objective = LabelEmbedding(8, 3, temperature=2.0)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    citation = "Sun, Wei, Ren, Ma 2017: Label Embedding Network: Learning Label Representation for Soft Training"
    learns_labels = True

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
        output_weight: float | None = None,
        target_weight: float | None = None,
        uniform_weight: float | None = None,
        target_warmup: float = 0.0,
        impl: Implementation = "auto",
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        weights = {"output_weight": output_weight, "target_weight": target_weight, "uniform_weight": uniform_weight}
        chosen = with_preset(PRESETS, preset, errors, **weights)
        for name in weights:
            errors.require(chosen[name] >= 0, name, chosen[name], "must be >= 0")
        if isinstance(embedding, LabelGeometry):
            rule = f"must have {num_labels} labels as the data has"
            errors.require(len(embedding) == num_labels, "embedding", len(embedding), rule)
        else:
            errors.choice("embedding", embedding, ("full", "compressed"))
            rule = f"must be 'compressed' for more than {FULL_LABELS:,} labels: E takes 16 C^2 bytes to train"
            errors.require(embedding != "full" or num_labels <= FULL_LABELS, "embedding", embedding, rule)
        errors.whole("rank", rank, least=1)
        errors.choice("auxiliary", auxiliary, ("separate", "shared"))
        valid = initial_scale in (None, "log") or (not isinstance(initial_scale, str) and initial_scale > 0)
        errors.require(valid, "initial_scale", initial_scale, "must be > 0, 'log' or None")
        errors.require(embedding_learning_rate > 0, "embedding_learning_rate", embedding_learning_rate, "must be > 0")
        errors.require(temperature > 0, "temperature", temperature, "must be > 0")
        errors.require(0 <= confidence_limit <= 1, "confidence_limit", confidence_limit, "must be in [0, 1]")
        errors.choice("impl", impl, IMPLEMENTATIONS)
        errors.require(0 <= target_warmup < 1, "target_warmup", target_warmup, "must be in [0, 1), a share of the run")
        super().__init__(hidden_size, num_labels, errors=errors, **common)
        self.output_weight: float = chosen["output_weight"]
        self.target_weight: float = chosen["target_weight"]
        self.uniform_weight: float = chosen["uniform_weight"]
        self.hinge_reduction: str = chosen["hinge_reduction"]
        self.temperature = temperature
        self.confidence_limit = confidence_limit
        self.embedding_learning_rate = embedding_learning_rate
        self.impl = impl
        self.target_warmup = target_warmup
        self._needs_epochs = target_warmup > 0
        self._target_weight_now = 0.0 if target_warmup > 0 else self.target_weight
        self.learns_embedding = not isinstance(embedding, LabelGeometry)
        if self.learns_embedding:
            self.accumulation_warning = "E learns from the mean over a batch's examples that are predicted right"
        separate = self.learns_embedding and auxiliary == "separate"
        self.auxiliary = nn.Linear(hidden_size, num_labels, bias=self.output.bias is not None) if separate else None
        self.embedding = _Embedding(embedding, num_labels, rank=rank, initial_scale=initial_scale)

    @classmethod
    def from_linear(cls, layer: nn.Linear, **arguments: Any) -> Self:
        """Takes over an output layer [H -> C] as o1; o2 starts as a copy of it; see `Objective.from_linear`."""
        objective = super().from_linear(layer, **arguments)
        if objective.auxiliary is not None:
            # It learns even where the layer is frozen: E learns from what o2 gets right.
            objective.auxiliary = copy.deepcopy(objective.output).requires_grad_(True)
        return objective

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> LabelEmbeddingTerms:
        """Computes the terms; see `Objective.forward`. In chunks only `total` can be differentiated."""
        examples = self._examples(hidden, labels, step)
        layers = [layer for layer in (self.output, self.auxiliary) if layer is not None]
        if takes_chunks(self.impl, *layers):
            return self._in_chunks(examples)
        h, y, w = examples.hidden, examples.labels, examples.loss_weights
        z1, e = self.output(h), self.embedding(y)
        log_p1, log_e = losses.log_softmax(z1), losses.log_softmax(e)
        uniform = auxiliary = hinge = embedding = log_p1.new_zeros(())

        output = losses.cross_entropy(log_p1, y, w)  # eq. 7
        target = losses.soft_cross_entropy(log_e.detach().exp(), log_p1, w)  # eq. 13
        if self.uniform_weight > 0:
            uniform = losses.uniform_cross_entropy(log_p1, w)
        z2 = z1
        if self.auxiliary is not None:
            z2 = self.auxiliary(h.detach())
            entropies = F.nll_loss(losses.log_softmax(z2), y, reduction="none")
            auxiliary = examples.mean(entropies)  # eq. 8
            hinge = examples.mean(F.relu((-entropies).exp() - self.confidence_limit))  # eq. 12, with the norm p = 1
            if self.hinge_reduction == "sum":
                hinge = hinge * examples.total_weight
        if self.learns_embedding:
            softened = losses.log_softmax(losses.full_precision(z2.detach()) / self.temperature).exp()  # eq. 10
            of_correct = self._weights_of_correct(z2.argmax(dim=-1) == y, examples)
            embedding = losses.soft_cross_entropy(softened, log_e, of_correct)  # eq. 11
        weights = self.output_weight, self._target_weight_now, self.uniform_weight
        total = losses.weighted_sum((*weights, 1, 1, 1), (output, target, uniform, auxiliary, hinge, embedding))
        return LabelEmbeddingTerms(total, output, target, auxiliary, hinge, embedding, uniform)  # eq. 14 or 17

    def _weights_of_correct(self, correct: Tensor, examples: Examples) -> Tensor:
        """Returns weights [N] for a mean over the examples that are correct [N], times the batch's share of the step.

        How many examples of a whole step are correct is not known before its last micro-batch.
        """
        weights = examples.loss_weights * correct
        sums = torch.stack([examples.loss_weights.sum(), weights.sum()])
        share, of_correct = global_count(sums, group=examples.group)
        factor: Tensor = share / of_correct.clamp_min(1e-30)  # where none is correct the sum is 0
        return weights * factor

    def _in_chunks(self, examples: Examples) -> LabelEmbeddingTerms:
        """Computes the terms without all logits at once."""
        settings = chunked.Settings(
            output_weight=self.output_weight,
            target_weight=self._target_weight_now,
            uniform_weight=self.uniform_weight,
            hinge_weight=1.0 if self.hinge_reduction == "mean" else examples.total_weight,
            temperature=self.temperature,
            confidence_limit=self.confidence_limit,
            learns_embedding=self.learns_embedding,
            global_sum=partial(global_count, group=examples.group),
        )
        first, second = self.output, self.auxiliary
        return chunked.label_embedding_terms(
            examples.hidden,
            examples.labels,
            examples.loss_weights,
            (first.weight, first.bias),
            None if second is None else (second.weight, second.bias),
            (self.embedding.weight, self.embedding.projection),
            settings,
        )

    def start_epoch(self, epoch: int, epochs: int, steps: int) -> None:
        """Gives `target` its weight once the warm-up is over; see `Objective.start_epoch`."""
        super().start_epoch(epoch, epochs, steps)
        self._target_weight_now = self.target_weight if epoch >= min(self.target_warmup * epochs, epochs - 1) else 0.0

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Returns optimiser groups in which E, A and B are not decayed: decay pulls softmax(E) towards uniform.

        With `embedding_learning_rate` their group has a `learning_rate_factor`. torch's optimisers do not read it: set
        the group's `lr` from it.

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
    def label_geometry(self, names: Sequence[str] | None = None) -> LabelGeometry:
        """Returns E as similarities; of a compressed one above 2,000 labels the rows of A as vectors, by cosine."""
        if self.embedding.projection is not None and self.num_labels > DENSE_GEOMETRY_LABELS:
            return self._geometry(names, vectors=self.embedding.weight, metric="cosine")
        every_label = torch.arange(self.num_labels, device=self.embedding.weight.device)
        return self._geometry(names, similarities=self.embedding(every_label))


class _Embedding(nn.Module):
    """``E[y]``, learned or fixed (eq. 17), or ``relu(A[y] B)`` (eq. 16); `weight` is E or A, `projection` B or None."""

    weight: Tensor
    projection: Tensor | None

    def __init__(
        self, kind: str | LabelGeometry, num_labels: int, *, rank: int, initial_scale: float | str | None
    ) -> None:
        super().__init__()
        scale = math.log(num_labels) + 1.5 if isinstance(initial_scale, str) else initial_scale
        self.projection = None
        if isinstance(kind, LabelGeometry):
            self.register_buffer("weight", kind.logits().detach().clone())
        elif kind == "full":
            self.weight = nn.Parameter(torch.eye(num_labels) * (scale or 1.0))
        else:
            left = torch.randn(num_labels, rank)
            if scale is None:
                right = torch.randn(rank, num_labels) / rank**0.5  # A B starts with variance 1; relu keeps half of it
            else:
                left = F.normalize(left, dim=1) * scale**0.5
                right = left.T.clone(memory_format=torch.contiguous_format)  # safetensors saves no other
            self.weight, self.projection = nn.Parameter(left), nn.Parameter(right)

    def forward(self, labels: Tensor) -> Tensor:
        """Returns e [n, C] for labels [n]."""
        e = F.embedding(labels, self.weight)
        return e if self.projection is None else F.relu(e @ self.projection)
