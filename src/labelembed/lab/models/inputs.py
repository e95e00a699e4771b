"""What happens to inputs before the network, whole batches at once on the device: scaling, augmentation, mixing.

All draws come from torch's global generator of the inputs' device, as those of dropout do, so that a resumed run goes
on with the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelembed.errors import ArgumentErrors

Augmentations = Literal["none", "flip", "crop_flip"]
Mixings = Literal["none", "mixup", "cutmix"]
#: Pixels a crop may be moved by to each side, as is usual for 32 x 32 pictures (He et al. 2016).
CROP_PIXELS = 4


class InputScaling(nn.Module):
    """Returns ``(inputs - offset) / scale`` in float32, channel by channel.

    Images stay uint8 until they are on the device; the scaling travels with the model's weights, so that a saved run
    reads raw inputs. `offset` and `scale` (without a 0) are one number a channel, or one for all.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, *, offset: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        if any(value == 0 for value in scale):
            raise ValueError(f"`scale` must not hold a zero, got {list(scale)}")
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32))
        self.register_buffer("factor", 1 / torch.tensor(scale, dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        """Scales a batch; see the class."""
        shape = (-1,) + (1,) * (inputs.ndim - 2)
        # The difference is new, so that the inputs stay as they are.
        return (inputs.float() - self.offset.view(shape)).mul_(self.factor.view(shape))


class Augmentation(nn.Module):
    """Returns pictures mirrored, moved and with a piece cut out in training mode, and as they are otherwise.

    `flip` mirrors each picture left to right with probability 1/2; `crop_flip` also moves it by up to 4 pixels each
    way and fills with 0, which after the scaling `standard` is the mean colour. `cutout` then puts 0 in a square with
    its middle anywhere in the picture, cut off at the border (DeVries, Taylor 2017).

    Args:
        augmentation: `none`, `flip` or `crop_flip`.
        cutout: Side of the square in pixels; None: none is cut out.
        input_shape: Shape of one input; (C, H, W) where anything is changed.
    """

    def __init__(self, augmentation: Augmentations, *, cutout: int | None = None, input_shape: Sequence[int]) -> None:
        super().__init__()
        errors = ArgumentErrors()
        errors.choice("augmentation", augmentation, get_args(Augmentations))
        images, flat = len(input_shape) == 3, f"for inputs of {'x'.join(map(str, input_shape))}, no pictures"
        errors.require(images or augmentation == "none", "augmentation", augmentation, f"must be 'none' {flat}")
        errors.require(images or cutout is None, "cutout", cutout, f"must be None {flat}")
        errors.require(cutout is None or cutout >= 1, "cutout", cutout, "must be >= 1, or None")
        errors.raise_if_any()
        self.augmentation, self.cutout = augmentation, cutout

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
    rows, columns = (
        _span(torch.randint(0, size, (count, 1), device=pictures.device) - side // 2, side, size)
        for size in (height, width)
    )
    return pictures.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], 0.0)


class Mixed(NamedTuple):
    """Inputs [N, ...] mixed with their partners, whose positions are [N]; `share` says how much is an example's own."""

    inputs: Tensor
    partners: Tensor
    share: Tensor


class Mixing(nn.Module):
    """Mixes each picture with another of the batch, at random; used in training only.

    One share is drawn for a batch, from Beta(alpha, alpha), and a random order of it gives each example its partner.
    `mixup` (Zhang et al. 2018): ``share * picture + (1 - share) * partner``. `cutmix` (Yun et al. 2019): a rectangle
    of ``1 - share`` of the picture, anywhere, is taken from the partner; where the border cuts it, the share is what
    is left.

    Args:
        mixing: `mixup` or `cutmix`.
        alpha: Of the Beta distribution; 1: every share is as likely as any other, less: mostly near 0 and 1.
        input_shape: Shape of one input; (C, H, W) for `cutmix`.
    """

    def __init__(self, mixing: Mixings, *, alpha: float = 1.0, input_shape: Sequence[int]) -> None:
        super().__init__()
        errors = ArgumentErrors()
        errors.choice("mixing", mixing, get_args(Mixings)[1:])
        errors.require(alpha > 0, "mixing_alpha", alpha, "must be > 0")
        rule = f"must be 'none' or 'mixup' for inputs of {'x'.join(map(str, input_shape))}, no pictures"
        errors.require(mixing != "cutmix" or len(input_shape) == 3, "mixing", mixing, rule)
        errors.raise_if_any()
        self.mixing, self.alpha = mixing, alpha

    def forward(self, inputs: Tensor) -> Mixed:
        """Returns a batch [N, ...] mixed with itself; see the class."""
        device = inputs.device
        alpha = torch.tensor(self.alpha, device=device)
        share = torch.distributions.Beta(alpha, alpha, validate_args=False).sample()
        partners = torch.randperm(inputs.shape[0], device=device)
        others = inputs[partners]
        if self.mixing == "mixup":
            return Mixed(torch.lerp(others, inputs, share.to(inputs.dtype)), partners, share)
        inside = _rectangle(inputs.shape[2], inputs.shape[3], 1 - share)
        share = 1 - inside.float().mean()
        return Mixed(torch.where(inside, others, inputs), partners, share)


def _rectangle(height: int, width: int, share: Tensor) -> Tensor:
    """Returns [H, W] bool: a rectangle with `share` of the picture, its middle anywhere, cut off at the border."""
    # No number leaves the device: a GPU need not be waited for.
    side = share.sqrt()
    middle = torch.rand(2, device=share.device)
    lengths = [(side * size).round() for size in (height, width)]
    rows, columns = (
        _span((place * size).floor() - (length / 2).floor(), length, size)
        for place, length, size in zip(middle, lengths, (height, width), strict=True)
    )
    return rows[:, None] & columns


def _span(first: Tensor, length: Tensor | int, size: int) -> Tensor:
    """Returns bool [..., size], which of `size` pixels stand from `first` [..., 1] on for `length`."""
    pixels = torch.arange(size, device=first.device)
    return (pixels >= first) & (pixels < first + length)
