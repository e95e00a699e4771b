"""The residual networks of He et al. 2016 for small pictures: ResNet-20, 32, 44, 56, 110."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults
from labelembed.models.residual import SHORTCUTS, Shortcut, block_stage, he_normal_, normalised_convolution


class ResNet(nn.Module):
    """A 3x3 convolution, three stages of n basic blocks, and the mean over the picture (He et al. 2016, section 4.2).

    The second and third stage halve the picture. With the output layer there are ``6 n + 2`` layers with weights:
    0.27 million weights in ResNet-20, 0.85 million in ResNet-56. Convolutions start as in He et al. 2015.

    Args:
        input_shape: (channels, height, width), height and width at least 8.
        depth: 6 n + 2: 20, 32, 44, 56, 110, ...; 8 is the smallest.
        channels: Filters of the three stages; the last is the width of the hidden rows.
        shortcut: Where the shape changes: `padding` (option A, which the paper has for these networks; the paper does
            not say where the zeros go, here they come last) or `projection` (option B).
        dropout: Probability of dropping a hidden unit; the paper has none.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: None: the output layer starts in PyTorch's own way.

    Shapes: inputs [N, channels, height, width], output [N, hidden_size].
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        depth: int = 20,
        channels: tuple[int, int, int] = (16, 32, 64),
        shortcut: Shortcut = "padding",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        pictures = len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= 8
        wanted = "must be (channels, height, width), 8 pixels or more a side"
        faults.require(pictures, "input_shape", list(input_shape), wanted)
        faults.require(depth >= 8 and depth % 6 == 2, "depth", depth, "must be 6 n + 2: 8, 14, 20, 32, 44, 56, ...")
        three = len(channels) == 3 and min(channels) >= 1
        faults.require(three, "channels", list(channels), "must be three numbers >= 1")
        faults.choice("shortcut", shortcut, SHORTCUTS)
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        faults.raise_if_any()
        blocks = (depth - 2) // 6
        first, second, third = channels
        self.layers = nn.Sequential(
            normalised_convolution(input_shape[0], first),
            nn.ReLU(inplace=True),
            block_stage(first, first, blocks=blocks, stride=1, shortcut=shortcut),
            block_stage(first, second, blocks=blocks, stride=2, shortcut=shortcut),
            block_stage(second, third, blocks=blocks, stride=2, shortcut=shortcut),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
        )
        he_normal_(self)
        self.hidden_size = third
        self.output_std: float | None = None
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, hidden_size]."""
        hidden: Tensor = self.layers(inputs.contiguous(memory_format=torch.channels_last))
        return hidden
