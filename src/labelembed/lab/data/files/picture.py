"""Picture files: what kind one is, its pixels, and how they are brought to a size."""

from __future__ import annotations

import io
import math
import statistics
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

#: How a picture of other proportions is brought to a size; see `fitted`.
Fit = Literal["crop", "stretch", "pad"]
FITS = ("crop", "stretch", "pad")
#: Height and width that pictures are brought to; `auto`: see `automatic_side`; None: they all have one size.
ImageSize = int | Literal["auto"] | None
#: The smallest and the largest size that `auto` takes; networks for pictures need the smallest.
SMALLEST_AUTO, LARGEST_AUTO = 16, 64
#: Pictures are extreme whose longer side is more than so many times their shorter one.
EXTREME_ABOVE = 3
#: File name endings of pictures, in lower case.
PICTURE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm",
})  # fmt: skip
# Only formats that Pillow decodes itself: it would hand an EPS file to Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_ORIENTATION = 0x0112
# Of a large JPEG only every second, fourth or eighth pixel is computed, the mean of those around it; the picture is
# still this many times as large as needed, so that the filter below does most of the work.
_REDUCING_GAP = 2

Pixels = npt.NDArray[np.uint8]


class Header(NamedTuple):
    """What the beginning of a picture file says: (height, width) as a person sees it, and whether it is grey."""

    size: tuple[int, int]
    is_grey: bool


@contextmanager
def decoding() -> Iterator[None]:
    """Makes Pillow refuse images with very many pixels, and ignore damaged tags, in all threads while the block runs.

    `look` and `decode` are to be called within it: warnings are set for all threads at once.
    """
    from PIL import Image

    with warnings.catch_warnings():
        # Pillow only warns of the smaller decompression bombs.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # damaged tags that the pixels do not need
        yield


def look(content: bytes) -> Header:
    """Returns size and kind of a picture; of most formats only the beginning is read.

    Raises:
        DataError: It is no picture, or too large; says why, not which file.
    """
    with _reasons(), _opened(content) as image:
        height, width = image.height, image.width
        if _orientation(image) in (5, 6, 7, 8):
            height, width = width, height
        return Header((height, width), image.mode in _GREY_MODES)


def decode(
    content: bytes, *, channels: int, size: tuple[int, int] | None = None, fit: Fit = "crop"
) -> tuple[Pixels, list[str]]:
    """Returns a picture [channels, height, width] and what was changed for that.

    The picture is turned as its camera's orientation says, transparent parts become white, and of several frames the
    first is taken. More than Pillow's ``MAX_IMAGE_PIXELS`` are refused before any is decoded.

    Args:
        content: A PNG, JPEG, WebP, GIF, BMP, TIFF or PPM file.
        channels: 1 for grey, 3 for red, green and blue.
        size: (height, width) to bring it to; None: as it is stored.
        fit: How, see `fitted`.

    Raises:
        DataError: It is no picture, cut off, damaged or too large; says why, not which file.
    """
    from PIL import ImageOps

    with _reasons(), _opened(content) as opened:
        image, changes = opened, []
        if size is not None:
            _reduce_while_decoding(image, size, fit)
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            changes.append(f"{image.mode} made RGB")
        if getattr(image, "n_frames", 1) > 1:
            changes.append("only the first of several frames used")
        if _orientation(image) != 1:
            changes.append("turned as the camera's orientation says")
            image = ImageOps.exif_transpose(image)
        image = _opaque(_eight_bits(image, changes), changes)
        if image.mode not in ("L", "RGB"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        if channels == 3 and image.mode == "L":
            changes.append("grey used for red, green and blue")
            image = image.convert("RGB")
        elif channels == 1 and image.mode == "RGB":
            changes += [] if _is_grey(image) else ["colours made grey"]
            image = image.convert("L")
        pixels: Pixels = np.array(image if size is None else fitted(image, size, fit), dtype=np.uint8)
    return (pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)), changes


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


def fitted(image: Image, size: tuple[int, int], fit: Fit) -> Image:
    """Returns a loaded picture (L or RGB) at a size; where it has that size, as it is.

    Args:
        image: The picture.
        size: (height, width).
        fit: `crop`: as large a part of its middle as has the proportions; `stretch`: all of it, its proportions
            changed; `pad`: all of it, with black borders.
    """
    from PIL import Image as ImageModule
    from PIL import ImageOps

    wanted = (size[1], size[0])
    if image.size == wanted:
        return image
    # Pillow widens the filter when it makes an image smaller, so every pixel counts (antialiasing)
    filtered = ImageModule.Resampling.BILINEAR
    if fit == "crop":
        return ImageOps.fit(image, wanted, filtered)
    if fit == "stretch":
        return image.resize(wanted, filtered)
    scale = min(wanted[0] / image.width, wanted[1] / image.height)
    width, height = (max(1, round(side * scale)) for side in image.size)  # ImageOps.pad would make a thin one 0 wide
    bordered = ImageModule.new(image.mode, wanted)
    bordered.paste(image.resize((width, height), filtered), ((wanted[0] - width) // 2, (wanted[1] - height) // 2))
    return bordered


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns whatever Pillow raises into DataError: its decoders raise OSError, SyntaxError, struct.error and more."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError("is damaged, or no picture whatever its name says") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"has more than {limit:,} pixels, the limit; make the picture smaller") from None
    except Exception as error:
        raise DataError(f"is cut off or damaged ({error})") from None


def _opened(content: bytes) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(content), formats=_FORMATS)


def _orientation(image: Image) -> int:
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged tags, which the pixels do not need
        return 1


def _reduce_while_decoding(image: Image, size: tuple[int, int], fit: Fit) -> None:
    """Lets a JPEG be decoded at a half, a quarter or an eighth, where that is large enough.

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


def _eight_bits(image: Image, changes: list[str]) -> Image:
    """Returns the image with 8 bits a channel; Pillow's own conversion of deep grey would cut values off."""
    from PIL import Image as ImageModule

    if image.mode in ("I", "F"):
        raise DataError("has 32 bits a pixel; save the picture with 8, or give a .npy array")
    if ";16" in str([tile[3] for tile in getattr(image, "tile", [])]) or image.mode.startswith("I;16"):
        changes.append("16 bits a channel made 8")
    if not image.mode.startswith("I;16"):
        return image
    deep: npt.NDArray[Any] = np.asarray(image)
    return ImageModule.fromarray(np.round(deep / 257).astype(np.uint8))


def _opaque(image: Image, changes: list[str]) -> Image:
    """Returns the image on white paper where parts of it are transparent."""
    from PIL import Image as ImageModule

    if not image.has_transparency_data:
        return image
    was_grey = image.mode in _GREY_MODES
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        image = ImageModule.alpha_composite(ImageModule.new("RGBA", image.size, "white"), image)
        changes.append("transparent parts made white")
    return image.convert("L" if was_grey else "RGB")


def _is_grey(image: Image) -> bool:
    red, green, blue = (np.asarray(image.getchannel(name)) for name in "RGB")
    return bool((red == green).all() and (green == blue).all())
