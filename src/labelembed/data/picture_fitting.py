"""Bringing a picture to a size: cut to its middle, stretched, or with borders."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from PIL.Image import Image

#: How a picture of other proportions is made to fit; see `fitted`.
Fit = Literal["crop", "stretch", "pad"]
#: Height and width that pictures are brought to; `auto`: see `automatic_side`; None: they all have one size.
ImageSize = int | Literal["auto"] | None
#: The smallest and the largest size that `auto` takes; networks for pictures need the smallest.
SMALLEST_AUTO, LARGEST_AUTO = 16, 64
#: Pictures are extreme whose longer side is more than so many times their shorter one.
EXTREME_ABOVE = 3
# Of a large JPEG only every second, fourth or eighth pixel is computed, the mean of those around it; the picture is
# still this many times as large as needed, so that the filter below does most of the work.
_REDUCING_GAP = 2


def typical_side(sizes: Iterable[tuple[int, int]]) -> int:
    """Returns the median of the shorter sides of pictures, rounded down.

    Args:
        sizes: (height, width) of each; at least one.
    """
    return int(statistics.median(min(size) for size in sizes))


def automatic_side(typical: int) -> int:
    """Returns the height and width that `auto` stands for: the `typical_side` of the training pictures, 16 to 64."""
    return max(SMALLEST_AUTO, min(typical, LARGEST_AUTO))


def is_extreme(size: tuple[int, int]) -> bool:
    """Tells whether a picture of this (height, width) loses most of itself where it is cut to its middle."""
    return max(size) > EXTREME_ABOVE * min(size)


def reduce_while_decoding(image: Image, size: tuple[int, int], fit: Fit) -> None:
    """Lets a JPEG that is not loaded yet be decoded at a half, a quarter or an eighth, where that is large enough.

    Args:
        image: Just opened; any format.
        size: (height, width) it is to have in the end; square, for the picture may lie on its side.
        fit: As in `fitted`.
    """
    if image.format != "JPEG" or size[0] != size[1]:
        return
    scale = (min if fit == "pad" else max)(size[1] / image.width, size[0] / image.height)
    wanted = size if fit == "stretch" else (math.ceil(image.width * scale), math.ceil(image.height * scale))
    image.draft(None, (wanted[0] * _REDUCING_GAP, wanted[1] * _REDUCING_GAP))


def fitted(image: Image, size: tuple[int, int], fit: Fit) -> Image:
    """Returns a loaded picture (L or RGB) at a size; where it has that size, as it is.

    Args:
        image: The picture.
        size: (height, width).
        fit: `crop`: as large a part of its middle as has the proportions; `stretch`: all of it, its proportions
            changed; `pad`: all of it, with black borders.
    """
    from PIL import Image as ImageModule

    height, width = size
    if image.size == (width, height):
        return image
    # Pillow widens the filter when it makes an image smaller, so every pixel counts (antialiasing)
    filtered = ImageModule.Resampling.BILINEAR
    if fit == "stretch":
        return image.resize((width, height), filtered)
    if fit == "crop":
        scale = max(width / image.width, height / image.height)
        part = (min(width / scale, image.width), min(height / scale, image.height))
        left, top = (image.width - part[0]) / 2, (image.height - part[1]) / 2
        box = (left, top, min(left + part[0], image.width), min(top + part[1], image.height))
        return image.resize((width, height), filtered, box=box)
    scale = min(width / image.width, height / image.height)
    inner = (max(1, min(width, round(image.width * scale))), max(1, min(height, round(image.height * scale))))
    bordered = ImageModule.new(image.mode, (width, height))
    bordered.paste(image.resize(inner, filtered), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return bordered
