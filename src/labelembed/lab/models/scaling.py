"""From stored inputs (uint8 images) to what a network reads, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class InputScaling(nn.Module):
    """Returns ``(inputs - offset) / scale`` in float32, channel by channel.

    Images stay uint8 until they are on the device; the scaling travels with the model's weights, so that
    a saved run reads raw inputs.

    Args:
        offset: One number a channel, or one for all.
        scale: One number a channel, or one for all; not zero.

    Shapes: inputs [N, channels, ...] or [N, F] (then one number for all); output the same, float32.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, *, offset: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        if any(value == 0 for value in scale):
            raise ValueError(f"`scale` must not hold a zero, got {list(scale)}")
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))
        self.register_buffer("factor", 1 / torch.tensor(scale, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scales a batch; see the class."""
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        # The difference is new, so that the inputs stay as they are.
        return (inputs.float() - self.offset.view(shape)).mul_(self.factor.view(shape))
