"""The wide residual networks of Sun et al. 2017 for CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults
from labelembed.models.residual import SHORTCUTS, Shortcut, block_stage, he_normal_, normalised_convolution

#: Depth to the filters of each stage and the blocks in it.
DEPTHS: dict[int, tuple[tuple[int, ...], int]] = {8: ((128, 256, 512), 1), 18: ((128, 256, 512, 1024), 2)}
#: Pixels that the last pooling takes the mean of, a side.
POOLING = 4


class PaperResNet(nn.Module):
    """A 3x3 convolution, stages of basic blocks, and average pooling of 4x4 pixels (Sun et al. 2017, section 3.1).

    ResNet-8 (CIFAR-10): one block each of 128, 256 and 512 filters; of a picture of 32x32 pixels 2x2x512 = 2048
    features are left. ResNet-18 (CIFAR-100): two blocks each of 128, 256, 512 and 1024 filters, 1024 features. Every
    stage but the first halves the picture.

    The paper says no more than "ResNet with 18 layers and 8 layers, following the settings in He et al. (2016)".
    Filters, pooling and strides are those of the code published with it. Open are the shortcuts where the shape
    changes (here He et al.'s option B, a 1x1 convolution, unless `shortcut` says otherwise), the order within a block
    (here convolution, normalisation, ReLU, the sum before the last ReLU, as in He et al. 2016) and the start of the
    weights (here He et al. 2015).

    Args:
        input_shape: (channels, height, width); depth 8 needs 13 pixels a side or more, depth 18 needs 25.
        depth: 8 or 18.
        channels: Filters of each stage; None: the paper's.
        shortcut: `projection` or `padding`, see `ResNet`.
        dropout: Probability of dropping a hidden unit; the paper names none.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: None: the output layer starts in PyTorch's own way.

    Shapes: inputs [N, channels, height, width], output [N, hidden_size].
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        depth: Literal[8, 18] = 8,
        channels: Sequence[int] | None = None,
        shortcut: Shortcut = "projection",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        faults = ArgumentFaults()
        faults.choice("depth", depth, tuple(DEPTHS))
        papers, blocks = DEPTHS.get(depth, DEPTHS[8])
        widths = papers if channels is None else tuple(channels)
        right = len(widths) == len(papers) and min(widths, default=0) >= 1
        faults.require(right, "channels", list(widths), f"must be {len(papers)} numbers >= 1 for depth {depth}")
        # A stride of 2 leaves half the pixels, rounded up.
        halved = 2 ** (len(papers) - 1)
        pictures = len(input_shape) == 3 and input_shape[0] >= 1
        left = [-(-size // halved) for size in input_shape[1:]] if pictures else [0]
        least = halved * (POOLING - 1) + 1
        wanted = f"must be (channels, height, width), {least} pixels or more a side with depth {depth}"
        faults.require(pictures and min(left) >= POOLING, "input_shape", list(input_shape), wanted)
        faults.choice("shortcut", shortcut, SHORTCUTS)
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        faults.raise_if_any()
        stages: list[nn.Module] = []
        width_in = widths[0]
        for place, width in enumerate(widths):
            stride = 1 if place == 0 else 2
            stages.append(block_stage(width_in, width, blocks=blocks, stride=stride, shortcut=shortcut))
            width_in = width
        self.layers = nn.Sequential(
            normalised_convolution(input_shape[0], widths[0]),
            nn.ReLU(inplace=True),
            *stages,
            nn.AvgPool2d(POOLING),
            nn.Flatten(),
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
        )
        he_normal_(self)
        self.hidden_size = widths[-1] * (left[0] // POOLING) * (left[1] // POOLING)
        self.output_std: float | None = None
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, hidden_size]."""
        hidden: Tensor = self.layers(inputs.contiguous(memory_format=torch.channels_last))
        return hidden
