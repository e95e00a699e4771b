"""Distances between points and label vectors, with gradients that stay finite where both are the same point."""

from __future__ import annotations

import torch
from torch import Tensor

from labelembed.losses.reference import full_precision

# Below this squared distance two points count as one: the distance is 1e-6 there and has no gradient.
SMALLEST_SQUARE = 1e-12


def distances(points: Tensor, centres: Tensor) -> Tensor:
    """Returns the Euclidean distances [..., C] of points [..., D] to label vectors [C, D].

    ``sqrt(max(|z|^2 + |c|^2 - 2 z c, 1e-12))``, as Yu, Verma 2022 compute eq. 2: no [N, C, D] tensor is made, the
    operations export to ONNX, and where a point lies on a vector the gradient is 0 and not infinite. Both are moved
    to the vectors' mean first, for the sum loses digits far from the origin. float16 and bfloat16 are computed
    in float32, also under autocast.
    """
    with torch.autocast(points.device.type, enabled=False):
        points, centres = full_precision(points), full_precision(centres)
        middle = centres.detach().mean(dim=0)
        points, centres = points - middle, centres - middle
        lengths = points.square().sum(dim=-1, keepdim=True) + centres.square().sum(dim=-1)
        flat = points.reshape(-1, points.shape[-1])
        # One operation in the place of three.
        squares = torch.addmm(lengths.reshape(-1, centres.shape[0]), flat, centres.T, alpha=-2).view_as(lengths)
        return squares.clamp_min(SMALLEST_SQUARE).sqrt()
