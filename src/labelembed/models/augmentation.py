"""Changed copies of training pictures, whole batches at once, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults

Augmentations = Literal["none", "flip", "crop_flip"]
#: Pixels a crop may be moved by to each side, as is usual for 32 x 32 pictures (He et al. 2016).
CROP_PIXELS = 4


class Augmentation(nn.Module):
    """Returns pictures mirrored, moved and with a piece cut out in training mode, and as they are otherwise.

    `flip` mirrors each picture left to right with probability 1/2; `crop_flip` also moves it by up to 4 pixels each
    way and fills with 0, which after the scaling `standard` is the mean colour. `cutout` then puts 0 in a square with
    its middle anywhere in the picture, cut off at the border (DeVries, Taylor 2017). All draws come from torch's global
    generator of the inputs' device, as those of dropout do, so that a resumed run goes on with the same pictures.

    Args:
        augmentation: `none`, `flip` or `crop_flip`.
        cutout: Side of the square in pixels; None: none is cut out.
        input_shape: Shape of one input; (C, H, W) where anything is changed.

    Raises:
        ValueError: An argument is out of its range, or the inputs are no pictures.

    Shapes: inputs [N, C, H, W] (anything for `none`), output the same.
    """

    def __init__(self, augmentation: Augmentations, *, cutout: int | None = None, input_shape: Sequence[int]) -> None:
        super().__init__()
        faults = ArgumentFaults()
        faults.choice("augmentation", augmentation, get_args(Augmentations))
        pictures = len(input_shape) == 3
        shape = "x".join(map(str, input_shape))
        rule = f"must be 'none' for inputs of {shape}, no pictures"
        faults.require(pictures or augmentation == "none", "augmentation", augmentation, rule)
        rule = f"must be None for inputs of {shape}, no pictures"
        faults.require(pictures or cutout is None, "cutout", cutout, rule)
        faults.require(cutout is None or cutout >= 1, "cutout", cutout, "must be >= 1, or None")
        faults.raise_if_any()
        self.augmentation = augmentation
        self.cutout = cutout

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the batch, changed; see the class."""
        if not self.training:
            return inputs
        if self.augmentation == "crop_flip":
            inputs = _moved(inputs, CROP_PIXELS)
        if self.augmentation != "none":
            mirrored = torch.rand(len(inputs), device=inputs.device) < 0.5
            inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
        return inputs if self.cutout is None else _cut_out(inputs, self.cutout)


def _moved(pictures: Tensor, most: int) -> Tensor:
    """Returns pictures [N, C, H, W] moved by -most to most pixels each way, 0 where nothing is left."""
    count, _, height, width = pictures.shape
    device = pictures.device
    padded = F.pad(pictures, (most, most, most, most))
    top, left = torch.randint(0, 2 * most + 1, (2, count), device=device)
    # Every window there is, as a view: what is picked is copied a line of pixels at a time, not pixel by pixel.
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=device), :, top, left]


def _cut_out(pictures: Tensor, side: int) -> Tensor:
    """Returns pictures [N, C, H, W] with 0 in a square of `side` pixels, its middle any of the picture's."""
    count, _, height, width = pictures.shape
    inside = []
    for size in (height, width):
        first = torch.randint(0, size, (count, 1), device=pictures.device) - side // 2
        pixels = torch.arange(size, device=pictures.device)
        inside.append((pixels >= first) & (pixels < first + side))
    return pictures.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[:, None], 0.0)
