"""How networks start: the paper's way, or PyTorch's."""

from __future__ import annotations

from typing import Literal

from torch import nn

Initialization = Literal["paper", "pytorch"]


def truncated_normal_(module: nn.Module, *, standard_deviation: float) -> None:
    """Sets every weight of `module` from N(0, sd) cut at two sd, as TensorFlow's initialiser does; biases to 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            limit = 2 * standard_deviation
            nn.init.trunc_normal_(part.weight, std=standard_deviation, a=-limit, b=limit)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
