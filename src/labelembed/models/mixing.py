"""Pictures mixed in pairs, whole batches at once, on the device: mixup and CutMix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from labelembed.errors import ArgumentFaults

Mixings = Literal["none", "mixup", "cutmix"]


class Mixed(NamedTuple):
    """A batch mixed with itself.

    Attributes:
        inputs: [N, C, H, W], each row mixed with its partner.
        partners: Positions [N] in the batch, int64.
        share: How much of a row is its own, a scalar in [0, 1]; the rest is its partner's.
    """

    inputs: Tensor
    partners: Tensor
    share: Tensor


class Mixing(nn.Module):
    """Mixes each picture with another of the batch, at random; used in training only.

    One share is drawn for a batch, from Beta(alpha, alpha), and a random order of it gives each row its partner.
    `mixup` (Zhang et al. 2018): ``share * picture + (1 - share) * partner``. `cutmix` (Yun et al. 2019): a rectangle
    of ``1 - share`` of the picture, anywhere, is taken from the partner; where the border cuts it, the share is what
    is left. The draws come from torch's global generator of the inputs' device, so that a resumed run goes on with the
    same pictures.

    Args:
        mixing: `mixup` or `cutmix`.
        alpha: Of the Beta distribution; 1: every share is as likely as any other, less: mostly near 0 and 1.
        input_shape: Shape of one input; (C, H, W) for `cutmix`.

    Raises:
        ValueError: An argument is out of its range, or `cutmix` is asked for of inputs that are no pictures.
    """

    def __init__(self, mixing: Mixings, *, alpha: float = 1.0, input_shape: Sequence[int]) -> None:
        super().__init__()
        faults = ArgumentFaults()
        faults.choice("mixing", mixing, get_args(Mixings)[1:])
        faults.require(alpha > 0, "mixing_alpha", alpha, "must be > 0")
        pictures = mixing != "cutmix" or len(input_shape) == 3
        shape = "x".join(map(str, input_shape))
        faults.require(pictures, "mixing", mixing, f"must be 'none' or 'mixup' for inputs of {shape}, no pictures")
        faults.raise_if_any()
        self.mixing = mixing
        self.alpha = alpha

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
    inside = []
    for size, place in zip((height, width), middle, strict=True):
        length = (side * size).round()
        first = (place * size).floor() - (length / 2).floor()
        pixels = torch.arange(size, device=share.device)
        inside.append((pixels >= first) & (pixels < first + length))
    rectangle: Tensor = inside[0][:, None] & inside[1]
    return rectangle
