"""The multilayer perceptron of Sun et al. 2017, appendix B."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor, nn

from labelembed.errors import ArgumentErrors

#: How the weights start: as in Sun et al. 2017, or PyTorch's own way.
Initialization = Literal["paper", "pytorch"]


class MLP(nn.Module):
    """Linear layers with ReLU.

    Args:
        input_shape: Shape of one input; flattened.
        hidden_sizes: Widths of the hidden layers, 500 and 500 in the paper; none: the objective's output layer is all.
        batch_norm: Normalise the hidden units over the batch after each ReLU, as Yu and Verma (2022) do over fixed
            features of texts; a batch of one example by the running mean and deviation.
        dropout: Probability of dropping a hidden unit after each layer; 0 in the paper.
        initialization: `paper`: weights from N(0, 0.1) cut at two standard deviations, output layer 0.01,
            biases 0. `pytorch`: PyTorch's own.
    """

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        hidden_sizes: Sequence[int] = (500, 500),
        batch_norm: bool = False,
        dropout: float = 0.0,
        initialization: Initialization = "pytorch",
    ) -> None:
        super().__init__()
        errors = ArgumentErrors()
        shape_holds = len(input_shape) > 0 and all(size >= 1 for size in input_shape)
        errors.require(shape_holds, "input_shape", list(input_shape), "must be one or more sizes >= 1")
        sizes_hold = all(size >= 1 for size in hidden_sizes)
        errors.require(sizes_hold, "hidden_sizes", list(hidden_sizes), "must be widths >= 1")
        errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        errors.choice("initialization", initialization, get_args(Initialization))
        errors.raise_if_any()
        layers: list[nn.Module] = [nn.Flatten()]
        widths = [math.prod(input_shape), *hidden_sizes]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
            if batch_norm:
                layers.append(nn.BatchNorm1d(width_out))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.batch_norm = batch_norm
        self.hidden_size = widths[-1]
        self.output_std = paper_start_(self.layers) if initialization == "paper" else None

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        return through_batch_norm(self.layers, inputs) if self.batch_norm else self.layers(inputs)


def through_batch_norm(layers: nn.Module, inputs: Tensor) -> Tensor:
    """Returns ``layers(inputs)``; a batch of one example has no deviation, and is normalised by the running one."""
    is_alone = layers.training and inputs.shape[0] == 1
    if is_alone:
        layers.eval()
    hidden: Tensor = layers(inputs)
    if is_alone:
        layers.train()
    return hidden


def paper_start_(module: nn.Module) -> float:
    """Draws weights from N(0, 0.1) cut at two deviations, as TensorFlow's initialiser does, and sets biases to 0.

    Returns the standard deviation for the output layer, 0.01 (Sun et al. 2017, appendix B).
    """
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=0.1, a=-0.2, b=0.2)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return 0.01
