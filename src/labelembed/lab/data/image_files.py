"""Picture files: which kinds are read, how one is decoded and brought to a size, and many of them in threads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import statistics
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.checks import counted, printable

#: How a picture of other proportions becomes a square: its middle; all of it, stretched; all of it, with black borders.
Fit = Literal["crop", "stretch", "pad"]
#: Height and width that pictures are brought to; `auto` follows the training pictures.
ImageSize = int | Literal["auto"]
#: File name endings of pictures, in lower case.
IMAGE_SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm",
})  # fmt: skip
#: Pictures that are worked on before what came of them is handed on.
AT_ONCE = 64
# Only formats that Pillow decodes itself: it would hand an EPS file to Ghostscript.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")
_MOST_THREADS = 8
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
    """Opens a picture; raises DataError where it is none, damaged or too large, once the block comes to see it."""
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

    It is turned as its camera's orientation says, transparent parts become white, and of several frames the first is
    taken. Pictures of more than Pillow's ``MAX_IMAGE_PIXELS`` are refused before any is decoded.

    Args:
        content: A PNG, JPEG, WebP, GIF, BMP, TIFF or PPM file.
        channels: 1 for grey, 3 for red, green and blue.
        size: (height, width) to bring it to; one that has it stays as it is.
        fit: How, see `Fit`.
        cubic: Resize with the bicubic filter, as pre-trained networks are used to; otherwise bilinear.
    """
    from PIL import Image, ImageOps

    wanted = (size[1], size[0])
    resampling = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    with opened(content) as image:
        # A large JPEG is decoded at a half, a quarter or an eighth of its size, but twice as large as it is to be.
        image.draft(None, (2 * max(size), 2 * max(size)))
        with contextlib.suppress(Exception):  # damaged tags, which the pixels do not need
            ImageOps.exif_transpose(image, in_place=True)
        image = _in_mode(image, "L" if channels == 1 else "RGB")
        if image.size != wanted:
            if fit == "crop":
                image = ImageOps.fit(image, wanted, resampling)
            elif fit == "stretch":
                image = image.resize(wanted, resampling)
            else:
                scale = min(wanted[0] / image.width, wanted[1] / image.height)
                inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
                image = ImageOps.pad(image.resize(inner, resampling), wanted)
        pixels = np.array(image, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _in_mode(image: Any, mode: str) -> Any:
    """Returns an image as `L` or `RGB`, on white paper where parts of it are transparent."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise DataError("has 32 bits a pixel; save the picture with 8, or give a .npy array")
    if image.mode.startswith("I;16"):  # Pillow's own conversion would cut values off
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)


class Images:
    """N pictures that are not decoded yet.

    Args:
        places: Where each lies: a path, or a parquet file and the number of the example in it.
        root: The folder that names in messages are relative to.
        column: Returns the column of the pictures in a parquet file.
        belong: Whether they are examples of a data set, of which results are kept; otherwise just to predict for.
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
                found = place.read_bytes()
            else:
                with _ONE_READS:  # several threads come to the next file at once
                    column = self.column(place[0])
                found = column[place[1]].as_py()
                found = found.get("bytes") if isinstance(found, dict) else found
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if not found:
            raise DataError("is empty")
        return bytes(found)

    def shown(self, index: int) -> str:
        """Returns how messages name one: by its path below the root, or file and row."""
        place = self.places[index]
        if isinstance(place, tuple):
            return f"{place[0].name} row {place[1]}"
        return printable(place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else str(place))

    def thumbnail(self, index: int, side: int = 96) -> Tensor:
        """Returns one [3, side, side] for a person to look at."""
        with decoding():
            return torch.from_numpy(decode(self.content(index), channels=3, size=(side, side), fit="pad"))

    @cached_property
    def digests(self) -> list[str]:
        """The SHA-256 of each one's content [N]; where it lies says nothing."""
        digests = [""] * len(self)  # of one that cannot be read nothing may be found later
        self.each(lambda content: hashlib.sha256(content).hexdigest(), digests.__setitem__)
        return digests

    def headers(self) -> tuple[int, bool]:
        """Returns the median of the shorter sides, and whether all are grey; raises DataError where none is read."""

        def header(content: bytes) -> tuple[int, bool]:
            with opened(content) as image:
                return min(image.size), image.mode in _GREY_MODES

        found: dict[int, tuple[int, bool]] = {}
        reasons = self.each(header, found.__setitem__)
        if not found:
            raise DataError(f"{self.root}: no training picture can be read; the first: {self.shown(0)}: {reasons[0]}")
        sides, are_grey = zip(*found.values(), strict=True)
        return int(statistics.median(sides)), all(are_grey)

    def unreadable(self) -> dict[int, str]:
        """Returns why pictures cannot be decoded, by index; all are decoded for that."""
        return self.each(partial(decode, channels=1, size=(1, 1), fit="stretch"), lambda *_: None)

    def each(self, work: Callable[[bytes], Any], keep: Callable[[int, Any], None]) -> dict[int, str]:
        """Calls `keep(index, result)` with what `work` makes, in several threads, of the content of each picture.

        Returns by index why pictures cannot be read, those of which `work` raises DataError.
        """
        reasons: dict[int, str] = {}

        def some_of(indices: Sequence[int]) -> dict[int, Any]:
            results = {}
            for index in indices:
                try:
                    results[index] = work(self.content(index))
                except DataError as error:
                    reasons[index] = str(error)
            return results

        # Processes that need the same pictures begin at different ones, and find what the others have kept.
        first = os.getpid() * 7919 % max(1, len(self))
        order = [*range(first, len(self)), *range(first)]
        # A thread of ours for each core, and in it one of torch's: so no result hangs on how many there are.
        before = torch.get_num_threads()
        try:
            with decoding(), ThreadPoolExecutor(_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
                for begin in range(0, len(order), AT_ONCE):
                    some = order[begin : begin + AT_ONCE]
                    for results in pool.map(some_of, [some[place : place + 4] for place in range(0, len(some), 4)]):
                        for index, result in results.items():
                            keep(index, result)
        finally:
            torch.set_num_threads(before)
        return reasons

    def refuse(self, reasons: dict[int, str]) -> None:
        """Raises DataError with the names of pictures that cannot be read, if there are any."""
        for index, reason in reasons.items() if not self.belong else ():
            raise DataError(f"{self.places[index]}: {reason}")
        if reasons:
            lines = [f"{self.shown(index)}: {reason}"[:200] for index, reason in sorted(reasons.items())]
            more = [f"and {len(lines) - 8:,} more"] if len(lines) > 8 else []
            heading = f"{self.root}: {counted(len(lines), 'picture')} cannot be read"
            way_out = "repair, or leave out with --set data.skip_unreadable=true"
            raise DataError("\n  ".join([f"{heading}; {way_out}", *lines[:8], *more]))


def _threads() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, there)
