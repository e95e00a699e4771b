"""The convolutional network of Sun et al. 2017, section 3.1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults
from labelembed.models.initialization import Initialization, truncated_normal_


class CNN(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then one dense layer with ReLU.

    Args:
        input_shape: (channels, height, width), height and width at least 4.
        channels: Filters of the two convolutions; 32 and 64 in the paper.
        dense_size: Width of the dense layer; 1024 in the paper.
        dropout: Probability of dropping a unit of the dense layer; the paper names none.
        initialization: `paper`: weights from N(0, 0.1) cut at two standard deviations, output layer 0.01,
            biases 0. `pytorch`: PyTorch's own.

    Attributes:
        hidden_size: Width of the rows returned.
        output_std: Standard deviation the output layer should start with; None for PyTorch's own way.

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
        super().__init__()
        faults = ArgumentFaults()
        images = len(input_shape) == 3 and input_shape[0] >= 1 and min(input_shape[1:]) >= 4
        faults.require(
            images,
            "input_shape",
            list(input_shape),
            "must be (channels, height, width), 4 pixels or more a side",
        )
        two = len(channels) == 2 and min(channels) >= 1
        faults.require(two, "channels", list(channels), "must be two numbers >= 1")
        faults.require(dense_size >= 1, "dense_size", dense_size, "must be >= 1")
        faults.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        faults.choice("initialization", initialization, ("paper", "pytorch"))
        faults.raise_if_any()
        depth, height, width = input_shape
        first, second = channels
        self.layers = nn.Sequential(
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
            nn.Dropout(dropout) if dropout > 0 else nn.Identity(),
        )
        self.hidden_size = dense_size
        self.output_std = 0.01 if initialization == "paper" else None
        if initialization == "paper":
            truncated_normal_(self, standard_deviation=0.1)
        # Channels last: an eighth less time a step on the CPU, where the pooling then runs along memory.
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden rows [N, dense_size]."""
        hidden: Tensor = self.layers(inputs.contiguous(memory_format=torch.channels_last))
        return hidden
