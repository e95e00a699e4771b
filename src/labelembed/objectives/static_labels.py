"""Static labels: the network learns to predict each label's vector, which is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed.errors import ArgumentErrors
from labelembed.geometry import LabelGeometry
from labelembed.losses.reference import distances, full_precision
from labelembed.objectives.base import CommonArguments, Objective, OutputTerms, StepArguments


class StaticLabels(Objective):
    """Regression to a fixed vector of each label; the nearest vector predicts (Chen et al. 2021, "StaticLabel").

    The output layer ``z = o(h)`` is as wide as the vectors v, [C, D]. With ``d = z - v_y``, a mean over D as in the
    Huber losses of PyTorch and Keras::

        output  d**2 / 2 where |d| <= delta, delta (|d| - delta / 2) beyond
        total   output

    `logits` are ``-||z - v_c||_2``. Their softmax is a distribution, but nothing has trained it to be calibrated: fit a
    temperature.

    Relations: `AdaptiveLabels` learns the vectors that are given here. When: the labels' names say how they relate.

    Args:
        embedding: The labels' vectors: a saved LabelGeometry of the same labels. Of one with similarities the
            vectors are its soft targets, [C, C]. In a recipe also `text` (the labels' names, read by a packaged text
            encoder) or `text:PATH` (by a transformers model in a folder).
        delta: Where the Huber loss turns from a square into a line; > 0.
        normalize: Scale every vector to the length sqrt(D), so that delta means the same whatever made the vectors,
            and no label is nearer for being shorter.

    Raises:
        ValueError: The geometry has another number of labels, or a vector of length 0.

    Example:
        >>> import torch
        >>> words = LabelGeometry(("cat", "dog", "car"), vectors=torch.randn(3, 50))
        >>> objective = StaticLabels(8, 3, embedding=words)
        >>> objective(torch.randn(4, 8), torch.tensor([0, 1, 2, 1])).total.shape
        torch.Size([])
        >>> objective.output(torch.randn(4, 8)).shape, objective.logits(torch.randn(4, 8)).shape
        (torch.Size([4, 50]), torch.Size([4, 3]))
    """

    citation = "Chen, Li, Raghupathi, Lipson 2021: Beyond Categorical Label Representations for Image Classification"
    vectors: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_labels: int,
        *,
        embedding: LabelGeometry,
        delta: float = 1.0,
        normalize: bool = True,
        **common: Unpack[CommonArguments],
    ) -> None:
        errors = ArgumentErrors()
        errors.require(delta > 0, "delta", delta, "must be > 0")
        vectors = None
        if not isinstance(embedding, LabelGeometry):
            errors.require(False, "embedding", embedding, "must be a LabelGeometry")
        elif len(embedding) != num_labels:
            errors.require(False, "embedding", len(embedding), f"must have {num_labels} labels as the data has")
        else:
            vectors = _vectors_of(embedding, errors, normalize=normalize)
        size = None if vectors is None else vectors.shape[1]
        super().__init__(hidden_size, num_labels, output_size=size, errors=errors, **common)
        self.delta = delta
        self.register_buffer("vectors", vectors)

    def forward(
        self, hidden: Tensor, labels: Tensor, indices: Tensor | None = None, **step: Unpack[StepArguments]
    ) -> OutputTerms:
        """Computes the terms; see `Objective.forward`."""
        examples = self._examples(hidden, labels, step)
        z = full_precision(self.output(examples.hidden))
        wanted = F.embedding(examples.labels, self.vectors).to(z.dtype)
        output = examples.mean(F.huber_loss(z, wanted, reduction="none", delta=self.delta).mean(dim=-1))
        return OutputTerms(total=output, output=output)

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns minus the distance [..., C] to each label's vector."""
        return -distances(self.output(hidden), self.vectors)

    def label_geometry(self, names: Sequence[str] | None = None) -> LabelGeometry:
        """Returns the vectors that were given."""
        return self._geometry(names, vectors=self.vectors)


def _vectors_of(geometry: LabelGeometry, errors: ArgumentErrors, *, normalize: bool) -> Tensor | None:
    """Returns the vectors [C, D] that the outputs are trained towards; None, with an error, where they cannot be."""
    table = geometry.vectors if geometry.vectors is not None else geometry.soft_targets()
    vectors = table.detach().double().cpu()
    if normalize:
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        if bool((lengths == 0).any()):
            name = geometry.names[int((lengths == 0).flatten().nonzero()[0])]
            errors.require(False, "embedding", name, "must have no vector of length 0")
            return None
        vectors = vectors / lengths * vectors.shape[1] ** 0.5
    return vectors.float()
