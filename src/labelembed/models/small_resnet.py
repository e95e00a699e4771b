"""A small residual network for pictures of about 32 x 32, made for one or two cores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults


class SmallResNet(nn.Module):
    """A 4x4 convolution of stride 2, two 3x3 ones with max-pooling, a residual block, and the mean over the picture.

    Every convolution has batch normalisation and ReLU behind it (He et al. 2016). With the default widths there are
    0.4 million weights, and a picture of 32 x 32 takes 15 million multiplications. Nothing is computed at the full
    size of the picture, which on a processor without many cores would cost as much as all the rest.

    Args:
        input_shape: (channels, height, width), height and width at least 16.
        channels: Filters of the three convolutions; the last is the width of the block and of the hidden rows.
        dropout: Probability of dropping a hidden unit.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: None: the output layer starts in PyTorch's own way.

    Shapes: inputs [N, channels, height, width], output [N, hidden_size].
    """

    def __init__(
        self, *, input_shape: Sequence[int], channels: tuple[int, int, int] = (32, 64, 128), dropout: float = 0.0
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        pictures = len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= 16
        faults.require(
            pictures, "input_shape", list(input_shape), "must be (channels, height, width), 16 pixels or more a side"
        )
        three = len(channels) == 3 and min(channels) >= 1
        faults.require(three, "channels", list(channels), "must be three numbers >= 1")
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        faults.raise_if_any()
        first, second, third = channels
        self.layers = nn.Sequential(
            _convolution(input_shape[0], first, kernel_size=4, stride=2),
            _convolution(first, second),
            nn.MaxPool2d(2),
            _convolution(second, third),
            nn.MaxPool2d(2),
            _Residual(third),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
        )
        self.hidden_size = third
        self.output_std: float | None = None
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, hidden_size]."""
        hidden: Tensor = self.layers(inputs.contiguous(memory_format=torch.channels_last))
        return hidden


def _convolution(width_in: int, width_out: int, *, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        # no bias: the normalisation has its own shift
        nn.Conv2d(width_in, width_out, kernel_size=kernel_size, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)  # type: ignore[no-any-return]
