"""Convolutional networks: those of Sun et al. 2017, section 3.1, and a small residual one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors
from labelembed.lab.models.mlp import Initialization, paper_start_

#: Sun et al. 2017: depth to the filters of each stage and the blocks in it.
DEPTHS: dict[int, tuple[tuple[int, ...], int]] = {8: ((128, 256, 512), 1), 18: ((128, 256, 512, 1024), 2)}
#: Pixels a side that the last pooling of Sun et al. 2017 takes the mean of.
POOLING = 4


class ImageNetwork(nn.Module):
    """Layers from pictures [N, channels, height, width] to hidden states [N, hidden_size].

    They are in channels-last memory, which takes an eighth less time a step on the CPU. `start` draws the weights and
    returns the standard deviation for the output layer; None: PyTorch's own start.
    """

    def __init__(
        self, *layers: nn.Module, hidden_size: int, start: Callable[[nn.Module], float | None] | None = None
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.hidden_size = hidden_size
        # Before the change of layout: numbers are drawn in the order in which they stand in memory.
        self.output_std = None if start is None else start(self.layers)
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        hidden: Tensor = self.layers(inputs.contiguous(memory_format=torch.channels_last))
        return hidden


def image_errors(input_shape: Sequence[int], *, least: int, dropout: float) -> ArgumentErrors:
    """Returns the errors in arguments that all image networks have; pictures need `least` pixels a side."""
    errors = ArgumentErrors()
    holds = len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= least
    rule = f"must be (channels, height, width), {least} pixels or more a side"
    errors.require(holds, "input_shape", list(input_shape), rule)
    errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
    return errors


class CNN(ImageNetwork):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then one dense layer with ReLU (Sun et al. 2017).

    Args:
        input_shape: (channels, height, width), height and width at least 4.
        channels: Filters of the two convolutions; 32 and 64 in the paper.
        dense_size: Width of the dense layer; 1024 in the paper.
        dropout: Probability of dropping a unit of the dense layer; the paper names none.
        initialization: `paper`: weights from N(0, 0.1) cut at two standard deviations, output layer 0.01,
            biases 0. `pytorch`: PyTorch's own.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        channels: tuple[int, int] = (32, 64),
        dense_size: int = 1024,
        dropout: float = 0.0,
        initialization: Initialization = "pytorch",
    ) -> None:
        errors = image_errors(input_shape, least=4, dropout=dropout)
        two = len(channels) == 2 and min(channels) >= 1
        errors.require(two, "channels", list(channels), "must be two numbers >= 1")
        errors.require(dense_size >= 1, "dense_size", dense_size, "must be >= 1")
        errors.choice("initialization", initialization, get_args(Initialization))
        errors.raise_if_any()
        depth, height, width = input_shape
        first, second = channels
        super().__init__(
            nn.Conv2d(depth, first, kernel_size=5, padding=2),
            # ReLU after the pooling gives what ReLU before it gives, on a quarter of the values.
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(first, second, kernel_size=5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), dense_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            hidden_size=dense_size,
            start=paper_start_ if initialization == "paper" else None,
        )


class PaperResNet(ImageNetwork):
    """A 3x3 convolution, stages of basic blocks, and average pooling of 4x4 pixels (Sun et al. 2017, section 3.1).

    ResNet-8 (CIFAR-10): one block each of 128, 256 and 512 filters; of a picture of 32x32 pixels 2x2x512 = 2048
    features are left. ResNet-18 (CIFAR-100): two blocks each of 128, 256, 512 and 1024 filters, 1024 features. Every
    stage but the first halves the picture.

    The paper says no more than "ResNet with 18 layers and 8 layers, following the settings in He et al. (2016)".
    Filters, pooling and strides are those of the code published with it. Open are the shortcuts where the shape
    changes (here He et al.'s option B, a 1x1 convolution), the order within a block (here convolution, normalisation,
    ReLU, the sum before the last ReLU, as in He et al. 2016) and the start of the weights (here He et al. 2015).

    Args:
        input_shape: (channels, height, width); depth 8 needs 13 pixels a side or more, depth 18 needs 25.
        depth: 8 or 18.
        channels: Filters of each stage; None: the paper's.
        dropout: Probability of dropping a hidden unit; the paper names none.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        depth: Literal[8, 18] = 8,
        channels: Sequence[int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        papers, blocks = DEPTHS.get(depth, DEPTHS[8])
        widths = papers if channels is None else tuple(channels)
        halved = 2 ** (len(papers) - 1)
        errors = image_errors(input_shape, least=halved * (POOLING - 1) + 1, dropout=dropout)
        errors.choice("depth", depth, tuple(DEPTHS))
        right = len(widths) == len(papers) and min(widths, default=0) >= 1
        errors.require(right, "channels", list(widths), f"must be {len(papers)} numbers >= 1 for depth {depth}")
        errors.raise_if_any()
        stages: list[nn.Module] = [_convolution(input_shape[0], widths[0]), nn.ReLU(inplace=True)]
        for before, width in zip((widths[0], *widths), widths, strict=False):
            first = BasicBlock(before, width, stride=1 if len(stages) == 2 else 2)
            stages.append(nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1))))
        # A stride of 2 leaves half the pixels, rounded up.
        rows, columns = (-(-size // halved) // POOLING for size in input_shape[1:])
        super().__init__(
            *stages,
            nn.AvgPool2d(POOLING),
            nn.Flatten(),
            nn.Dropout(dropout),
            hidden_size=widths[-1] * rows * columns,
            start=he_start_,
        )


class SmallResNet(ImageNetwork):
    """A 4x4 convolution of stride 2, two 3x3 ones with max-pooling, a residual block, and the mean over the picture.

    Every convolution has batch normalisation and ReLU behind it (He et al. 2016). With the default widths there are
    0.4 million weights. Nothing is computed at the full size of the picture, which would cost as much as all the rest.

    Args:
        input_shape: (channels, height, width), height and width at least 16.
        channels: Filters of the three convolutions; the last is the width of the block and of the hidden states.
        dropout: Probability of dropping a hidden unit.
    """

    def __init__(
        self, *, input_shape: Sequence[int], channels: tuple[int, int, int] = (32, 64, 128), dropout: float = 0.0
    ) -> None:
        errors = image_errors(input_shape, least=16, dropout=dropout)
        three = len(channels) == 3 and min(channels) >= 1
        errors.require(three, "channels", list(channels), "must be three numbers >= 1")
        errors.raise_if_any()
        first, second, third = channels
        super().__init__(
            _convolution(input_shape[0], first, kernel_size=4, stride=2, relu=True),
            _convolution(first, second, relu=True),
            nn.MaxPool2d(2),
            _convolution(second, third, relu=True),
            nn.MaxPool2d(2),
            _Residual(third),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            hidden_size=third,
        )


class _Residual(nn.Module):
    """Adds two convolutions to their input; no ReLU acts on the sum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_convolution(width, width, relu=True), _convolution(width, width, relu=True))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.inner(inputs)  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection: ``relu(f(x) + shortcut(x))`` (He et al. 2016, fig. 2).

    Where the shape changes the shortcut is a 1x1 convolution with batch normalisation, otherwise the identity.

    Shapes: inputs [N, width_in, H, W], output [N, width_out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(self, width_in: int, width_out: int, *, stride: int = 1) -> None:
        super().__init__()
        first, second = _convolution(width_in, width_out, stride=stride), _convolution(width_out, width_out)
        self.inner = nn.Sequential(first, nn.ReLU(inplace=True), second)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width_out:
            # Pixels first, then the convolution: with a stride its gradient on a processor (oneDNN in torch 2.15,
            # channels last, a few filters) writes beyond its memory. The numbers are the same.
            pixels = nn.AvgPool2d(1, stride=stride)
            self.shortcut = nn.Sequential(pixels, _convolution(width_in, width_out, kernel_size=1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the block's output; see the class."""
        # Added in place: the sum is all that the ReLU's gradient needs.
        return F.relu_(self.inner(inputs) + self.shortcut(inputs))


def _convolution(
    width_in: int, width_out: int, *, kernel_size: int = 3, stride: int = 1, relu: bool = False
) -> nn.Sequential:
    """Returns a convolution and batch normalisation, whose shift is the only bias, with a ReLU behind it if wanted."""
    padding = (kernel_size - 1) // 2
    convolution = nn.Conv2d(width_in, width_out, kernel_size, stride=stride, padding=padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), *([nn.ReLU(inplace=True)] if relu else []))


def he_start_(module: nn.Module) -> None:
    """Starts every convolution from N(0, 2 / fan out), as He et al. 2015 do for ReLU networks; the rest is left."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
