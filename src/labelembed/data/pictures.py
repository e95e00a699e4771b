"""Reading one image: into the channels and the size that a network knows, or as it is stored."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labelembed.data.picture_fitting import Fit, fitted, reduce_while_decoding
from labelembed.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

# Only formats that Pillow decodes itself: it would hand an EPS file to Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_MODES = {1: "L", 3: "RGB"}
_CHANGES = {
    "stretch": "which changes its proportions",
    "crop": "of its middle only",
    "pad": "with black borders",
}


def read_picture(
    path: Path, *, input_shape: tuple[int, ...], accepted: str, notes: list[str], fit: Fit | None = None
) -> npt.NDArray[np.uint8]:
    """Returns the pixels [channels, height, width] of an image, 0 to 255, made to fit `input_shape`.

    Args:
        path: The file.
        input_shape: (channels, height, width), with 1 channel for grey or 3 for red, green, blue.
        accepted: The types of file to name where this is none of them.
        notes: Gets a line for every change made to the image.
        fit: How the training pictures were brought to their size; None: they had it, and this one is stretched.

    Raises:
        DataError: The file is no image, cut off or too large, or `input_shape` is not that of an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow only warns of the smaller decompression bombs.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # damaged tags that the pixels do not need
            warnings.filterwarnings("ignore", category=UserWarning)
            with Image.open(path, formats=FORMATS) as image:
                if len(input_shape) != 3 or input_shape[0] not in _MODES:
                    raise DataError(
                        f"{path}: is an image, but the network takes inputs of shape {input_shape}; "
                        "give a .npy array of that shape"
                    )
                stored = image.size
                if fit is not None:
                    reduce_while_decoding(image, (input_shape[1], input_shape[2]), fit)
                image.load()
                return _fitted(image, input_shape, path, notes, fit=fit or "stretch", stored=stored)
    except UnidentifiedImageError:
        raise DataError(f"{path}: unknown type of file; expected {accepted}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"{path}: has more than {limit:,} pixels, the limit; make the image smaller") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{path}: the image is cut off or damaged ({error})") from None


def decode_picture(content: bytes, where: str, *, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Returns the pixels of an encoded image as it is stored: [height, width] for grey, [height, width, 3] for colour.

    Transparent parts become white, and an image is turned as its camera's orientation says. More than Pillow's
    ``MAX_IMAGE_PIXELS`` are refused before any is decoded. Safe in threads where the caller has made
    ``DecompressionBombWarning`` an error, see `bombs_refused`.

    Args:
        content: A PNG, JPEG, WebP, GIF, BMP, TIFF or PPM file.
        where: File and row, for messages.
        size: (height, width) it must have, or None.

    Raises:
        DataError: It is no image, cut off, damaged, too large, or of another size.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            turned = _upright(image)
            width, height = turned.size
            if size is not None and (height, width) != size:
                raise DataError(
                    f"{where}: the image has {width} x {height} pixels, the first one of the training set has "
                    f"{size[1]} x {size[0]}; resize the images to one size"
                )
            return np.array(_plain(turned, where), dtype=np.uint8)
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise DataError(f"{where}: cannot be decoded as an image ({kinds}); it is damaged or no image") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"{where}: the image has more than {limit:,} pixels, the limit; make it smaller") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise DataError(f"{where}: the image is cut off or damaged ({error})") from None


def plain_picture(image: Image, mode: str) -> Image:
    """Returns an opened image as L or RGB of 8 bits, upright, transparent parts white.

    Raises:
        DataError: It has 32 bits a pixel.
        Exception: Whatever Pillow's decoders raise for a damaged file.
    """
    plain = _plain(_upright(image), "")
    return plain if plain.mode == mode else plain.convert(mode)


def _plain(image: Image, where: str) -> Image:
    """Returns an image as L where it is grey, and otherwise as RGB."""
    plain = _opaque(_eight_bits(image, where, []), [])
    return plain if plain.mode in ("L", "RGB") else plain.convert("L" if plain.mode == "1" else "RGB")


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    if "exif" in image.info and image.getexif().get(0x0112, 1) != 1:
        return ImageOps.exif_transpose(image)
    return image


@contextmanager
def bombs_refused() -> Iterator[None]:
    """Makes Pillow's warning of an image with very many pixels an error, in all threads while the block runs."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # damaged tags that the pixels do not need
        yield


def _fitted(
    image: Image, input_shape: tuple[int, ...], path: Path, notes: list[str], *, fit: Fit, stored: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    from PIL import ImageOps

    channels, height, width = input_shape
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"only the first of its {image.n_frames} images is used")  # type: ignore[attr-defined]
    if image.getexif().get(0x0112, 1) != 1:  # orientation
        lying = image.size
        image = ImageOps.exif_transpose(image)
        stored = stored if image.size == lying else (stored[1], stored[0])
        notes.append("turned as the camera's orientation says")
    image = _opaque(_eight_bits(image, path, notes), notes)
    mode = _MODES[channels]
    if image.mode != mode:
        grey = image.mode in ("1", "L")
        converted = image.convert("RGB")
        if mode == "L" and not grey and not _is_grey(converted):
            notes.append("colours made grey")
        elif mode == "RGB" and grey:
            notes.append("grey used for red, green and blue")
        image = image.convert(mode) if grey else converted.convert(mode)
    if stored != (width, height):
        change = "" if stored[0] * height == stored[1] * width else f", {_CHANGES[fit]}"
        notes.append(f"resized from {stored[0]}x{stored[1]} to {width}x{height}{change}")
    image = fitted(image, (height, width), fit)
    pixels: npt.NDArray[np.uint8] = np.array(image, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _opaque(image: Image, notes: list[str]) -> Image:
    """Returns the image on white paper where parts of it are transparent."""
    from PIL import Image as ImageModule

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        paper = ImageModule.new("RGBA", image.size, "white")
        image = ImageModule.alpha_composite(paper, image)
        notes.append("transparent parts made white")
    return image.convert("RGB")


def _eight_bits(image: Image, path: Path | str, notes: list[str]) -> Image:
    """Returns the image with 8 bits a channel; Pillow's own conversion would cut values off."""
    from PIL import Image as ImageModule

    if image.mode.startswith("I;16"):
        deep: npt.NDArray[Any] = np.asarray(image)
        notes.append("16 bits a pixel made 8")
        return ImageModule.fromarray(np.round(deep / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"{f'{path}: ' if path else ''}has 32 bits a pixel; save the image with 8, or give a .npy array"
        )
    return image


def _is_grey(image: Image) -> bool:
    red, green, blue = (np.asarray(image.getchannel(name)) for name in "RGB")
    return bool((red == green).all() and (green == blue).all())
