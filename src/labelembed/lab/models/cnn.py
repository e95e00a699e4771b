"""The convolutional network of Sun et al. 2017, section 3.1, and what all networks over pictures share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors
from labelembed.lab.models.mlp import Initialization, paper_start_


class PictureNetwork(nn.Module):
    """Layers from pictures [N, channels, height, width] to hidden states [N, hidden_size], in channels-last memory.

    Channels last takes an eighth less time a step on the CPU, where the pooling then runs along memory.

    Args:
        layers: Called one after the other.
        hidden_size: Width of what the last returns.
        start: Draws the weights, and returns the standard deviation for the output layer; None: PyTorch's own start.
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


def picture_errors(input_shape: Sequence[int], *, least: int, dropout: float) -> ArgumentErrors:
    """Returns what is wrong with the arguments that all networks over pictures have; `least` pixels a side."""
    errors = ArgumentErrors()
    holds = len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= least
    rule = f"must be (channels, height, width), {least} pixels or more a side"
    errors.require(holds, "input_shape", list(input_shape), rule)
    errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
    return errors


class CNN(PictureNetwork):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then one dense layer with ReLU.

    Args:
        input_shape: (channels, height, width), height and width at least 4.
        channels: Filters of the two convolutions; 32 and 64 in the paper.
        dense_size: Width of the dense layer; 1024 in the paper.
        dropout: Probability of dropping a unit of the dense layer; the paper names none.
        initialization: `paper`: weights from N(0, 0.1) cut at two standard deviations, output layer 0.01,
            biases 0. `pytorch`: PyTorch's own.

    Shapes: inputs [N, channels, height, width], output [N, dense_size].
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
        errors = picture_errors(input_shape, least=4, dropout=dropout)
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
