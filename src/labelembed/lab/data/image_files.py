"""Picture files: which kinds are read, how one is decoded and brought to a size, and many of them in threads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import statistics
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cached_property
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.checks import printable

#: How a picture of other proportions becomes a square: its middle; all of it, stretched.
Fit = Literal["crop", "stretch"]
#: Height and width that pictures are brought to; `auto` follows the training pictures.
ImageSize = int | Literal["auto"]
#: File name endings of pictures, in lower case.
IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm",
})  # fmt: skip
# Only formats that Pillow decodes itself: it would hand an EPS file to Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_ONE_READS = threading.Lock()

Array = npt.NDArray[Any]


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Makes Pillow refuse pictures with very many pixels, and ignore damaged tags, in all threads within the block."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow only warns of the smaller ones
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[Any]:
    """Opens a picture; where it is none, damaged or too large, the block raises DataError as it comes to that place."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield Image.open(io.BytesIO(content), formats=_FORMATS)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise DataError("is damaged, or no picture whatever its name says") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise DataError(f"has more than {limit:,} pixels, the limit; make the picture smaller") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise DataError(f"is cut off or damaged ({error})") from None


def decode(content: bytes, *, channels: int, size: tuple[int, int], fit: Fit, cubic: bool = False) -> Array:
    """Returns a picture [channels, height, width] of bytes; raises DataError, see `opened`.

    It is turned as its camera's orientation says, transparent parts become white, of several frames the first is taken,
    and `size` (height, width) is reached by `fit`, with the bicubic filter that pre-trained networks are used to, or
    bilinear. Pictures of more than Pillow's ``MAX_IMAGE_PIXELS`` are refused before any is decoded.
    """
    from PIL import Image, ImageOps

    wanted = (size[1], size[0])
    resampling = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    with opened(content) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth of its size, but twice as large as it is to be.
        image.draft(None, (2 * max(size), 2 * max(size)))
        with contextlib.suppress(Exception):  # damaged tags, which the pixels do not need
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("I", "F"):
            raise DataError("has 32 bits a pixel; save the picture with 8, or give a .npy array")
        if image.mode.startswith("I;16"):  # Pillow's own conversion would cut values off
            image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != wanted:
            fitted = ImageOps.fit if fit == "crop" else Image.Image.resize
            image = fitted(image, wanted, resampling)
        pixels = np.array(image, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


class Images:
    """N pictures that are not decoded yet.

    Each of `places` is a path, or a parquet file and the number of the example in it, of which `column` returns the
    column of pictures. Names in messages are relative to `root`. Pictures that do not `belong` to a data set are just
    to predict for.
    """

    def __init__(
        self, places: Sequence[Any], root: Path, *, column: Callable[[Path], Any] | None = None, belong: bool = True
    ) -> None:
        self.places, self.root, self.column, self.belong = places, root, column, belong

    def __len__(self) -> int:
        return len(self.places)

    def select(self, indices: Tensor) -> Images:
        """Returns those at these positions [M]."""
        return Images([self.places[index] for index in indices.tolist()], self.root, column=self.column)

    def content(self, index: int) -> bytes:
        """Returns the bytes of one; raises DataError with the reason where there are none."""
        place = self.places[index]
        try:
            if self.column is None:
                content = place.read_bytes()
            else:
                with _ONE_READS:  # several threads come to the next file at once
                    column = self.column(place[0])
                content = column[place[1]].as_py()
                content = content.get("bytes") if isinstance(content, dict) else content
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if not content:
            raise DataError("is empty")
        return bytes(content)

    def shown(self, index: int) -> str:
        """Returns how messages name one: by its path below the root, or file and row."""
        place = self.places[index]
        if isinstance(place, tuple):
            return f"{place[0].name} row {place[1]}"
        return printable(place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else str(place))

    def thumbnail(self, index: int, side: int = 96) -> Tensor:
        """Returns one [3, side, side] for a person to look at."""
        with decoding():
            return torch.from_numpy(decode(self.content(index), channels=3, size=(side, side), fit="crop"))

    @cached_property
    def digests(self) -> list[str]:
        """The SHA-256 of each one's content [N]; where it lies says nothing."""
        return [found for _, found in sorted(self.each(lambda n: hashlib.sha256(self.content(n)).hexdigest()))]

    def headers(self) -> tuple[int, bool]:
        """Returns the median of the shorter sides, and whether all are grey."""

        def header(index: int) -> tuple[int, bool]:
            with opened(self.content(index)) as image:
                return min(image.size), image.mode in _GREY_MODES

        sides, are_grey = zip(*(found for _, found in self.each(header)), strict=True)
        return int(statistics.median(sides)), all(are_grey)

    def readable(self) -> list[bool]:
        """Returns of each [N] whether it can be decoded; all are decoded for that."""

        def is_readable(index: int) -> bool:
            try:
                decode(self.content(index), channels=1, size=(1, 1), fit="stretch")
            except DataError:
                return False
            return True

        return [found for _, found in sorted(self.each(is_readable))]

    def each(self, work: Callable[[int], Any]) -> Generator[tuple[int, Any]]:
        """Yields the index of each picture, in any order, and what `work` makes of it, in several threads.

        Raises DataError where `work` does, with the picture's name.
        """

        def one(index: int) -> tuple[int, Any]:
            try:
                return index, work(index)
            except DataError as error:
                way_out = "; repair or remove it, or train with --set data.skip_unreadable=true" if self.belong else ""
                raise DataError(f"{self.root / self.shown(index)}: {error}{way_out}") from None

        # Processes that need the same pictures begin at different ones, and find what the others have kept.
        first = os.getpid() * 7919 % max(1, len(self))
        order = [*range(first, len(self)), *range(first)]
        # A thread of ours for each of torch's, and in it one of torch's: so no result hangs on how many there are.
        threads = torch.get_num_threads()
        try:
            with decoding(), ThreadPool(threads, torch.set_num_threads, (1,)) as pool:
                yield from pool.imap_unordered(one, order, chunksize=4)
        finally:
            torch.set_num_threads(threads)
