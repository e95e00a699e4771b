"""Static labels: the network learns to predict each label's vector, which is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.lab.special_tokens import BEGIN, PAD, SPECIAL_TOKENS, UNKNOWN
from labelembed.losses import distances, full_precision
from labelembed.objectives.base import CommonArguments, Objective

LOSSES = ("huber", "squared", "cosine")
# Below this squared length a vector has no direction; its gradient stays finite.
SMALLEST_SQUARE = 1e-12


class StaticLabelsTerms(NamedTuple):
    """Terms of `StaticLabels`: scalars; `output` is the distance to the right label's vector."""

    total: Tensor
    output: Tensor


class StaticLabels(Objective):
    """Regression to a fixed vector of each label, the nearest of which predicts (Chen et al. 2021, "StaticLabel").

    The output layer ``z = o(h)`` is as wide as the vectors v, [C, D]. ``total = output``, a mean over the
    examples that count of a distance between z and ``v_y``:

    - `huber`: ``mean_d of d**2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond``, ``d = z - v_y``; a mean
      over the D entries as in the Huber losses of PyTorch and Keras;
    - `squared`: ``mean_d (z - v_y)**2``;
    - `cosine`: ``1 - cos(z, v_y)``.

    It predicts by the nearest vector: `logits` are ``-||z - v_c||_2`` (huber, squared) or ``cos(z, v_c)``. Their
    softmax is a distribution, but nothing has trained it to be calibrated: fit a temperature.

    Args:
        hidden_size: H, width of the hidden states.
        num_labels: C, number of labels.
        embedding: The labels' vectors: a saved LabelGeometry of the same labels. Of one with similarities the
            vectors are its soft targets, [C, C]. The special tokens of a vocabulary that no training example has, and
            that a run's class means therefore give one vector, are put opposite the mean of the others. In a recipe
            also `text` (the labels' names, read by a packaged text encoder) or `text:PATH` (by a transformers model
            in a folder).
        loss: `huber`, `squared` or `cosine`, see above.
        delta: Where the Huber loss turns from a square into a line; > 0.
        normalize: Scale every vector to the length sqrt(D), a mean square of 1 an entry: then delta and the mean
            over D say the same whatever made the vectors, and no label is nearer for being shorter.
        common: What every objective takes, see `Objective`.

    Raises:
        ValueError: When an argument is out of its range, the geometry has another number of labels, or its
            vectors cannot tell two labels apart.

    Example:
        >>> import torch
        >>> words = LabelGeometry(("cat", "dog", "car"), vectors=torch.randn(3, 50))
        >>> objective = StaticLabels(8, 3, embedding=words)
        >>> objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).total.shape
        torch.Size([])
        >>> objective.output(torch.randn(4, 8)).shape, objective.logits(torch.randn(4, 8)).shape
        (torch.Size([4, 50]), torch.Size([4, 3]))
    """

    vectors: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        embedding: LabelGeometry,
        loss: Literal["huber", "squared", "cosine"] = "huber",
        delta: float = 1.0,
        normalize: bool = True,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.choice("loss", loss, LOSSES)
        errors.require(delta > 0, "delta", delta, "must be > 0")
        vectors = None
        if not isinstance(embedding, LabelGeometry):
            errors.require(False, "embedding", embedding, "must be a LabelGeometry")
        elif len(embedding) != num_labels:
            errors.require(False, "embedding", len(embedding), f"must have {num_labels} labels as the data has")
        else:
            vectors = _vectors_of(embedding, errors, unit_entries=normalize, by_direction=loss == "cosine")
        super().__init__(
            hidden_size,
            num_labels,
            output_size=None if vectors is None else vectors.shape[1],
            errors=errors,
            **common,
        )
        self.loss = loss
        self.delta = delta
        self.register_buffer("vectors", vectors)

    @classmethod
    def from_linear(cls, layer: nn.Linear, *, num_labels: int | None = None, **arguments: Any) -> Self:
        """Takes over an existing output layer [H -> D], see `Objective.from_linear`; C is that of `embedding`."""
        embedding = arguments.get("embedding")
        if num_labels is None and isinstance(embedding, LabelGeometry):
            num_labels = len(embedding)
        return super().from_linear(layer, num_labels=num_labels, **arguments)

    def forward(
        self,
        hidden: Tensor,
        labels: Tensor,
        indices: Tensor | None = None,
        *,
        sample_weight: Tensor | None = None,
        num_items_in_step: Tensor | int | None = None,
    ) -> StaticLabelsTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, sample_weight, num_items_in_step)
        found = full_precision(self.output(examples.hidden))
        wanted = F.embedding(examples.labels, self.vectors).to(found.dtype)
        if self.loss == "huber":
            distance = F.huber_loss(found, wanted, reduction="none", delta=self.delta).mean(dim=-1)
        elif self.loss == "squared":
            distance = F.mse_loss(found, wanted, reduction="none").mean(dim=-1)
        else:
            distance = 1 - (_directions(found) * _directions(wanted)).sum(dim=-1)
        output = examples.mean(distance)
        return StaticLabelsTerms(total=output, output=output)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns minus the distance [..., C] to each label's vector, or the cosine; see the class."""
        found: Tensor = self.output(hidden)
        if self.loss != "cosine":
            return -distances(found, self.vectors)
        with torch.autocast(found.device.type, enabled=False):
            found = full_precision(found)
            return _directions(found) @ _directions(self.vectors.to(found.dtype)).T

    def label_geometry(self, names: Sequence[str] | None = None, *, class_means: Tensor | None = None) -> LabelGeometry:
        """Returns what the outputs have become: their class means; without these the vectors it was given."""
        source = type(self).__name__ if class_means is None else f"{type(self).__name__}, class means"
        vectors = (self.vectors if class_means is None else class_means).detach().float().cpu().clone()
        metric: Literal["cosine", "euclidean"] = "cosine" if self.loss == "cosine" else "euclidean"
        return LabelGeometry(self._names(names), vectors=vectors, metric=metric, source=source)


def _directions(vectors: Tensor) -> Tensor:
    """Returns vectors [..., D] scaled to length 1; one of length 0 stays, with a finite gradient."""
    return vectors / vectors.square().sum(dim=-1, keepdim=True).clamp_min(SMALLEST_SQUARE).sqrt()


def _vectors_of(
    geometry: LabelGeometry, errors: ArgumentErrors, *, unit_entries: bool, by_direction: bool
) -> Tensor | None:
    """Returns the vectors [C, D] that the outputs are to be; None where they are none, which is noted."""
    table = geometry.vectors if geometry.vectors is not None else geometry.soft_targets()
    vectors = table.detach().double().cpu()
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    compared = vectors
    if unit_entries or by_direction:
        if bool((lengths == 0).any()):
            name = geometry.names[int((lengths == 0).flatten().nonzero()[0])]
            errors.require(False, "embedding", name, "must have no vector of length 0")
            return None
        compared = vectors / lengths
    if unit_entries:
        vectors = compared * vectors.shape[1] ** 0.5
    # In float32, so that the rounding of the scaling does not tell apart what is the same.
    _, places, counts = torch.unique(compared.float(), dim=0, return_inverse=True, return_counts=True)
    never = _never_seen(geometry.names, counts[places])
    first: dict[int, int] = {}
    for number, place in enumerate(places.tolist()):
        if place in first and number not in never:
            alike = f"{geometry.names[first[place]]} and {geometry.names[number]}"
            errors.require(False, "embedding", alike, "must have a vector of its own for every label")
            return None
        if number not in never:
            first[place] = number
    return _with_apart(vectors, never).float()


def _never_seen(names: Sequence[str], alike: Tensor) -> list[int]:
    """Returns the special tokens of a vocabulary that no training example has.

    The class means of a run give every label without examples the mean over all: they share another's vector.
    """
    if tuple(names[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        return []
    return [token for token in (PAD, UNKNOWN, BEGIN) if int(alike[token]) > 1]


def _with_apart(vectors: Tensor, never: list[int]) -> Tensor:
    """Returns vectors [C, D] in which those of labels that are never right lie opposite the mean of the others.

    Where they were, at the mean, they would be the nearest to every output that is in doubt.
    """
    others = torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)
    others[never] = False
    mean = vectors[others].mean(dim=0)
    length = torch.linalg.vector_norm(mean)
    if not never or float(length) == 0:
        return vectors
    found = vectors.clone()
    found[never] = -mean / length * torch.linalg.vector_norm(vectors[others], dim=1).mean()
    return found
