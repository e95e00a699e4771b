"""The label embedding E of `LabelEmbedding` in its three forms: each returns e [n, C] for labels [n]."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.geometry import LabelGeometry

Scale = float | Literal["log"] | None


class _WholeEmbedding(nn.Module):
    """E [C, C] itself, learned or not."""

    weight: Tensor

    def forward(self, labels: Tensor) -> Tensor:
        """Returns e = E[y] [n, C]."""
        return F.embedding(labels, self.weight)

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """Returns E and nothing to multiply it with."""
        return self.weight, None

    def table(self) -> Tensor:
        """Returns E [C, C]."""
        return self.weight


class FullEmbedding(_WholeEmbedding):
    """E [C, C], a learned row for each label; starts as `scale` times the identity."""

    def __init__(self, num_labels: int, *, initial_scale: Scale = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(num_labels) * (_number(initial_scale, num_labels) or 1.0))


class CompressedEmbedding(nn.Module):
    """``e = relu(A[y] B)`` with A [C, K] and B [K, C] (eq. 16).

    Starts at random; with an `initial_scale` as ``B = A^T`` with rows of A so long that E has it on its diagonal.
    """

    def __init__(self, num_labels: int, rank: int, *, initial_scale: Scale = None) -> None:
        super().__init__()
        scale = _number(initial_scale, num_labels)
        left = torch.randn(num_labels, rank)
        if scale is None:
            right = torch.randn(rank, num_labels) / rank**0.5  # A B starts with variance 1; relu keeps half of it
        else:
            left = F.normalize(left, dim=1) * scale**0.5
            right = left.T.clone()
        self.left, self.right = nn.Parameter(left), nn.Parameter(right)

    def forward(self, labels: Tensor) -> Tensor:
        """Returns e = relu(A[y] B) [n, C]."""
        return F.relu(F.embedding(labels, self.left) @ self.right)

    def factors(self) -> tuple[Tensor, Tensor | None]:
        """Returns A and B."""
        return self.left, self.right

    def table(self) -> Tensor:
        """Returns relu(A B) [C, C]."""
        return F.relu(self.left @ self.right)


class FixedEmbedding(_WholeEmbedding):
    """The E of a saved geometry, which does not learn (eq. 17)."""

    def __init__(self, geometry: LabelGeometry) -> None:
        super().__init__()
        self.register_buffer("weight", geometry.logits().clone())


def _number(scale: Scale, num_labels: int) -> float | None:
    return math.log(num_labels) + 1.5 if isinstance(scale, str) else scale
