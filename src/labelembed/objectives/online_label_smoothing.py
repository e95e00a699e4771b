"""Online label smoothing: soft targets from what the network on average says of each label's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import whole_batch
from labelembed.errors import ArgumentFaults
from labelembed.geometry import LabelGeometry
from labelembed.losses import full_precision
from labelembed.losses.soft_targets import soft_cross_entropy
from labelembed.objectives.epochs import require_epoch
from labelembed.objectives.objective import Objective
from labelembed.objectives.search_space import Range, SearchSpace, Simplex
from labelembed.objectives.similarity_table import DENSE_LABELS, SimilarityTable
from labelembed.objectives.terms import Terms

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
    """Trains on the class means of the network's own predictions (Zhang et al. 2021).

    ``S[c]`` is the mean of softmax(z / temperature) over the training rows of class c that the network gets right.
    With a = `similarity_weight`, b = `uniform_weight`::

        output      CE(onehot(y), z)
        similarity  CE(S[y], z)
        uniform     CE(1/C, z)                                   (not in the paper)
        total       (1 - a - b) output + a similarity + b uniform

    `published`: S is gathered over an epoch and used in the next, and is uniform in the first; a = 0.5, b = 0. It needs
    `begin_epoch` before and `end_epoch` after each epoch, without which it does not train.
    `moving_average`: S follows the network at every step, ``S[c] = momentum S[c] + (1 - momentum) p`` for each right
    row, and the target has a uniform component: 0.3 onehot + 0.5 S[y] + 0.2 / C. The learned similarity says which
    wrong labels are less wrong, the uniform component keeps the network from becoming over-confident.

    Args:
        hidden_size: H, width of the hidden rows.
        num_labels: C, number of labels.
        preset: `moving_average` or `published`.
        similarity_weight: a; None: the preset's (0.5).
        uniform_weight: b; None: the preset's (0.2 and 0). a + b is at most 1.
        temperature: How soft the predictions are that S is the mean of; > 0.
        momentum: How much of S[c] a row of class c leaves, in [0, 1]; `published` has none.
        top_k: Entries of S kept a label, the rest spread evenly; None: all up to 2,000 labels, 64 above.
        bias: Whether the output layer has a bias.
        ignore_index: Rows with this label take no part in any term, nor in S; None: every row counts.
        output_std: Start of the output layer, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range.
        RuntimeError: `published`, in training, when `begin_epoch` was never called.

    Example:
        >>> import torch
        >>> objective = OnlineLabelSmoothing(8, 3, similarity_weight=0.4, uniform_weight=0.4)
        >>> terms = objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1]))
        >>> terms.total.backward()
        >>> objective.label_geometry(["cat", "dog", "car"]).soft_targets().shape
        torch.Size([3, 3])
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    search_space: ClassVar[SearchSpace] = {
        "weights": Simplex(("similarity_weight", "uniform_weight"), rest=True),
        "temperature": Range(1.0, 4.0, log=True),
    }

    training_buffers: ClassVar[frozenset[str]] = frozenset({"gathering.values", "gathering.labels", "gathering.seen"})

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
        bias: bool = True,
        ignore_index: int | None = -100,
        output_std: float | None = None,
    ) -> None:
        chosen = PRESETS.get(preset, PRESETS["moving_average"])
        similarity_weight = chosen["similarity_weight"] if similarity_weight is None else similarity_weight
        uniform_weight = chosen["uniform_weight"] if uniform_weight is None else uniform_weight
        faults = ArgumentFaults()
        faults.choice("preset", preset, tuple(PRESETS))
        faults.require(0 <= similarity_weight <= 1, "similarity_weight", similarity_weight, "must be in [0, 1]")
        faults.require(0 <= uniform_weight <= 1, "uniform_weight", uniform_weight, "must be in [0, 1]")
        both = similarity_weight + uniform_weight
        faults.require(both <= 1 + 1e-9, "similarity_weight", both, "and `uniform_weight` must add up to at most 1")
        faults.require(temperature > 0, "temperature", temperature, "must be > 0")
        faults.require(0 <= momentum <= 1, "momentum", momentum, "must be in [0, 1]")
        faults.require(top_k is None or top_k >= 1, "top_k", top_k, "must be >= 1, or None")
        super().__init__(
            hidden_size,
            num_labels,
            bias=bias,
            ignore_index=ignore_index,
            output_std=output_std,
            faults=faults,
        )
        self.similarity_weight = similarity_weight
        self.uniform_weight = uniform_weight
        self.output_weight = max(0.0, 1 - both)
        self.temperature = temperature
        self.momentum = None if preset == "published" else momentum
        self.similarities = SimilarityTable(num_labels, top_k=top_k)
        # What a mixed step has yet to remember; None outside of one.
        self._held_back: list[tuple[Tensor, Tensor, Tensor]] | None = None
        # What is gathered in an epoch for the next.
        self.gathering = SimilarityTable(num_labels, top_k=top_k) if preset == "published" else None
        self._epoch: int | None = None
        self._ended = True

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tells the objective that epoch `epoch` (from 0) of `epochs` begins.

        Raises:
            RuntimeError: `published`, when an earlier epoch was never ended: S would stay as it is.
        """
        if self.gathering is not None and not self._ended and self._epoch is not None and epoch > self._epoch:
            raise RuntimeError(
                f"epoch {self._epoch} was never ended, so that S would stay as it is: call objective.end_epoch() after "
                "each epoch"
            )
        self._epoch, self._ended = epoch, False

    def forward(self, hidden: Tensor, labels: Tensor, rows: Tensor | None = None) -> OnlineLabelSmoothingTerms:
        """Computes the terms; see `Objective.forward`. In training mode S then takes the rows in.

        Raises:
            RuntimeError: Activation checkpointing computes the pass again, see `Objective.moves_state`.
            RuntimeError: `published`, in training, when `begin_epoch` was never called.
        """
        if self.gathering is not None:
            require_epoch(self, self._epoch, otherwise="label smoothing of strength `similarity_weight`")
        moves = self.moves_state()
        hidden, labels = self.counted(hidden, labels)
        logits = full_precision(self.output(hidden))
        log_probabilities = F.log_softmax(logits, dim=-1)
        row_factor = whole_batch.mean_factor(labels.shape[0], like=logits, group=self.step_group)
        output = F.nll_loss(log_probabilities, labels, reduction="sum") * row_factor
        similarity = soft_cross_entropy(self.similarities.rows(labels), log_probabilities).sum() * row_factor
        total = self.output_weight * output + self.similarity_weight * similarity
        uniform = logits.new_zeros(())
        if self.uniform_weight > 0:
            uniform = log_probabilities.sum() * (-row_factor / self.num_labels)
            total = total + self.uniform_weight * uniform
        if moves:
            seen = (logits.detach(), log_probabilities.detach(), labels)
            if self._held_back is None:
                self._remember(*seen)
            else:
                self._held_back.append(seen)
        return OnlineLabelSmoothingTerms(total=total, output=output, similarity=similarity, uniform=uniform)

    def mixed(self, *arguments: Any, **named: Any) -> Terms:
        """Computes the terms of mixed rows, see `Objective.mixed`; both halves go by S as it was before the step."""
        self._held_back = []
        try:
            terms = super().mixed(*arguments, **named)
            for half, seen in enumerate(self._held_back):
                self._remember(*seen, half=half)
        finally:
            self._held_back = None
        return terms

    @torch.no_grad()
    def _remember(self, logits: Tensor, log_probabilities: Tensor, labels: Tensor, *, half: int = 0) -> None:
        said = log_probabilities.exp() if self.temperature == 1 else (logits / self.temperature).softmax(dim=-1)
        right = logits.argmax(dim=-1) == labels
        table = self.similarities if self.gathering is None else self.gathering
        table.absorb(said, labels, right, momentum=self.momentum, half=half, group=self.step_group)

    def end_epoch(self) -> None:
        """Takes what was gathered in the epoch as S of the next; a label that was never right keeps its row."""
        self._ended = True
        if self.gathering is not None:
            self.similarities.take(self.gathering)

    @torch.no_grad()
    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns log S as similarities; above 2,000 labels the class means, or the output layer's rows."""
        if self.num_labels > DENSE_LABELS:
            return super().label_geometry(names, class_means=class_means)
        # What float32 rounds to 0 is at least 1e-12: similarities are finite.
        similarities = self.similarities.whole().float().clamp_min(1e-12).log().cpu()
        return LabelGeometry(self.label_names(names), similarities=similarities, source=type(self).__name__)
