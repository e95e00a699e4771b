"""Fixed features of small pictures: histograms of gradients, mean colours, contrast.

    python -m benchmarks.gradient_histograms path/to/cifar100 cifar100-features.npz

writes those of CIFAR-100 (its parquet files) as arrays for the recipe `vectors-mlp`; with `--column` another column of
labels. A network of a few dense layers on these learns in a minute on one core what it cannot learn from pixels.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

ORIENTATIONS = 9
_CELL, _COLOUR_BLOCK, _CONTRAST_BLOCK = 4, 8, 16
_ROWS_AT_ONCE = 500


def gradient_histograms(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Returns the features [N, F] of pictures [N, C, H, W] of bytes; 636 of them for colour pictures of 32 x 32.

    With pixels p in [0, 1]:

    1. Gradients: central differences ``(p[x + 1] - p[x - 1]) / 2`` along both axes, the border repeated; of each
       pixel the channel with the longest gradient counts.
    2. Cells of 4 x 4 pixels: the gradients' lengths, added up by orientation (unsigned, 0 to 180 degrees) in 9 bins;
       a length is shared between the two nearest bins in proportion.
    3. Each cell's 9 numbers are divided by the root of the sum of squares over the 3 x 3 cells around it (at the
       border over those there are, scaled to 9) and 0.05, and the root is taken: ``9 H W / 16`` numbers.
    4. Mean of each channel over blocks of 8 x 8 pixels: ``C H W / 64`` numbers.
    5. Standard deviation of each channel over blocks of 16 x 16 pixels: ``C H W / 256`` numbers.

    Steps 1 to 3 are the histograms of oriented gradients of Dalal and Triggs (2005), normalised once instead of in
    four blocks. The features are not standardised: the recipe does that by the training
    examples.

    Args:
        pictures: uint8 [N, C, H, W], H and W divisible by 16.

    Returns:
        float32 [N, F], rows of orientations x cell rows x cell columns, then colours, then contrasts.

    Raises:
        ValueError: The sizes are not divisible by 16.
    """
    height, width = pictures.shape[2:]
    if height % _CONTRAST_BLOCK or width % _CONTRAST_BLOCK:
        raise ValueError(f"the sides must be multiples of {_CONTRAST_BLOCK} pixels, got {width} x {height}")
    channels = pictures.shape[1]
    cells, colours = height * width // _CELL**2, channels * height * width // _COLOUR_BLOCK**2
    contrasts = channels * height * width // _CONTRAST_BLOCK**2
    features = np.empty((len(pictures), ORIENTATIONS * cells + colours + contrasts), dtype=np.float32)
    for begin in range(0, len(pictures), _ROWS_AT_ONCE):
        chunk: Any = pictures[begin : begin + _ROWS_AT_ONCE]
        features[begin : begin + len(chunk)] = _features(torch.from_numpy(chunk).float() / 255).numpy()
    return features


def _features(pixels: Tensor) -> Tensor:
    mean = F.avg_pool2d(pixels, _COLOUR_BLOCK)
    whole = F.avg_pool2d(pixels, _CONTRAST_BLOCK)
    variance = F.avg_pool2d(pixels.square(), _CONTRAST_BLOCK) - whole.square()
    contrast = variance.clamp_min(0).sqrt()  # rounding can leave a variance a little below 0
    return torch.cat([part.flatten(1) for part in (_normalised(_histograms(pixels)), mean, contrast)], dim=1)


def _histograms(pixels: Tensor) -> Tensor:
    """Returns the mean gradient length by orientation and cell [N, 9, H / 4, W / 4]."""
    padded = F.pad(pixels, (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    length, channel = (across.square() + down.square()).max(dim=1, keepdim=True)
    length = length.sqrt()
    angle = torch.atan2(down.gather(1, channel), across.gather(1, channel)) % math.pi
    place = angle * (ORIENTATIONS / math.pi)
    bins = torch.arange(ORIENTATIONS, dtype=place.dtype).view(1, -1, 1, 1)
    distance = (place - bins).abs()
    distance = torch.minimum(distance, ORIENTATIONS - distance)  # 180 degrees is 0 degrees again
    return F.avg_pool2d((1 - distance).clamp_min(0) * length, _CELL)


def _normalised(histograms: Tensor) -> Tensor:
    energy = histograms.square().sum(dim=1, keepdim=True)
    around = F.avg_pool2d(energy, 3, stride=1, padding=1, count_include_pad=False) * 9
    return (histograms / (around.sqrt() + 0.05)).sqrt()


def features_of(path: Path, column: str | None) -> dict[str, Any]:
    """Returns the features and labels of a data set of pictures as the arrays of an npz file."""
    from labelembed.lab.data import ImageReader, prepare

    data = prepare(ImageReader(path=str(path), label_column=column).read(), validation=None)
    arrays: dict[str, Any] = {"names": np.array(data.names)}
    for name, split in data.splits.items():
        arrays |= {f"{name}_inputs": gradient_histograms(split.inputs.numpy()), f"{name}_labels": split.labels.numpy()}
    return arrays


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Writes the features of small pictures, with their labels, as arrays.")
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--column", help="of the labels, for instance fine_label")
    chosen = parser.parse_args()
    np.savez(chosen.out, **features_of(chosen.data, chosen.column))
