"""What residual networks are made of: convolutions with batch normalisation, and He et al.'s basic block."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

#: Where a block changes the shape: `padding` is option A of He et al. 2016, `projection` their option B.
Shortcut = Literal["padding", "projection"]
SHORTCUTS = ("padding", "projection")


def normalised_convolution(width_in: int, width_out: int, *, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    """Returns a convolution, padded to keep the size, and batch normalisation; it has no bias but the latter's."""
    return nn.Sequential(
        nn.Conv2d(width_in, width_out, kernel_size, stride=stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(width_out),
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the way around them: ``relu(f(x) + shortcut(x))`` (He et al. 2016, fig. 2).

    Args:
        width_in: Filters coming in.
        width_out: Filters going out.
        stride: Of the first convolution.
        shortcut: What stands for the identity where the shape changes. `padding`: every `stride`-th pixel, with zeros
            for the filters there are more of. `projection`: a 1x1 convolution with batch normalisation.

    Shapes: inputs [N, width_in, H, W], output [N, width_out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1, shortcut: Shortcut) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            normalised_convolution(width_in, width_out, stride=stride),
            nn.ReLU(inplace=True),
            normalised_convolution(width_out, width_out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            if shortcut == "projection":
                # Pixels first, then the convolution: with a stride its gradient on a processor (oneDNN in torch 2.15,
                # channels last, a few filters) writes beyond its memory. The numbers are the same.
                convolution = normalised_convolution(width_in, width_out, kernel_size=1)
                self.shortcut = nn.Sequential(_EveryPixel(stride), convolution) if stride != 1 else convolution
            else:
                self.shortcut = nn.Sequential(_EveryPixel(stride), _MoreFilters(width_out - width_in))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the block's output; see the class."""
        # Added in place: the sum is all that the ReLU's gradient needs.
        return F.relu_(self.inner(inputs) + self.shortcut(inputs))


class _EveryPixel(nn.Module):
    """Keeps every `stride`-th pixel."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, :, :: self.stride, :: self.stride]


class _MoreFilters(nn.Module):
    """Adds filters of zeros behind those there are; a negative number cuts off the last."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more

    def forward(self, inputs: Tensor) -> Tensor:
        return F.pad(inputs, (0, 0, 0, 0, 0, self.more))


def block_stage(width_in: int, width_out: int, *, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    """Returns basic blocks of one width, of which the first has the stride."""
    first = BasicBlock(width_in, width_out, stride=stride, shortcut=shortcut)
    rest = [BasicBlock(width_out, width_out, shortcut=shortcut) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def he_normal_(module: nn.Module) -> None:
    """Starts every convolution from N(0, 2 / fan out), as He et al. 2015 do for ReLU networks; the rest is left."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
