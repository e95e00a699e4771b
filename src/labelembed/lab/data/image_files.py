"""Picture files: which kinds are read, how one is decoded and brought to a size, and many of them in threads."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import statistics
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import DataError
from labelembed.lab.data.checks import counted, printable

if TYPE_CHECKING:
    from PIL.Image import Image

#: How a picture of other proportions becomes a square: its middle; all of it, stretched; all of it, with black borders.
Fit = Literal["crop", "stretch", "pad"]
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
_ORIENTATION = 0x0112
# A large JPEG is decoded at a half, a quarter or an eighth of its size, but this many times as large as it is to be.
_REDUCING_GAP = 2
_MOST_THREADS = 8
#: Pictures of which the results are handed on together.
AT_ONCE = 64
# Of pictures with one side more than so many times as long as the other, a larger share than this is noted.
_EXTREME, _MANY_EXTREME = 3, 0.1
_ONE_READS = threading.Lock()

Pixels = npt.NDArray[np.uint8]
Result = TypeVar("Result")


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Makes Pillow refuse pictures with very many pixels, and ignore damaged tags, in all threads within the block."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow only warns of the smaller ones
        warnings.filterwarnings("ignore", category=UserWarning)
        yield


def read_header(content: bytes) -> tuple[tuple[int, int], bool]:
    """Returns (height, width) of a picture as a person sees it, and whether it is grey; may read its beginning only.

    Raises:
        DataError: It is no picture, or too large; says why, not which file.
    """
    with _reasons(), _opened(content) as image:
        height, width = image.height, image.width
        with contextlib.suppress(Exception):  # damaged tags, which the pixels do not need
            if image.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
                height, width = width, height
        return (height, width), image.mode in _GREY_MODES


def decode(content: bytes, *, channels: int, size: tuple[int, int], fit: Fit, cubic: bool = False) -> Pixels:
    """Returns a picture [channels, height, width].

    It is turned as its camera's orientation says, transparent parts become white, and of several frames the first is
    taken. Pictures of more than Pillow's ``MAX_IMAGE_PIXELS`` are refused before any is decoded.

    Args:
        content: A PNG, JPEG, WebP, GIF, BMP, TIFF or PPM file.
        channels: 1 for grey, 3 for red, green and blue.
        size: (height, width) to bring it to; one that has it stays as it is.
        fit: How, see `Fit`.
        cubic: Resize with the bicubic filter, as pre-trained networks are used to; otherwise bilinear.

    Raises:
        DataError: It is no picture, cut off, damaged or too large; says why, not which file.
    """
    from PIL import Image, ImageOps

    wanted = (size[1], size[0])
    filtered = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    with _reasons(), _opened(content) as opened:
        if opened.format == "JPEG" and size[0] == size[1]:
            scale = (min if fit == "pad" else max)(size[1] / opened.width, size[0] / opened.height)
            least = wanted if fit == "stretch" else (math.ceil(opened.width * scale), math.ceil(opened.height * scale))
            opened.draft(None, (least[0] * _REDUCING_GAP, least[1] * _REDUCING_GAP))
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(opened, in_place=True)
        image = _in_mode(opened, "L" if channels == 1 else "RGB")
        if image.size != wanted and fit == "crop":
            image = ImageOps.fit(image, wanted, filtered)
        elif image.size != wanted:
            scale = min(wanted[0] / image.width, wanted[1] / image.height)
            inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(wanted if fit == "stretch" else inner, filtered)
            image = ImageOps.pad(image, wanted)  # only borders are left to add
        pixels: Pixels = np.array(image, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextlib.contextmanager
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


def _in_mode(image: Image, mode: str) -> Image:
    """Returns an image as `L` or `RGB`, on white paper where parts of it are transparent."""
    from PIL import Image as ImageModule

    if image.mode in ("I", "F"):
        raise DataError("has 32 bits a pixel; save the picture with 8, or give a .npy array")
    if image.mode.startswith("I;16"):  # Pillow's own conversion would cut values off
        deep: npt.NDArray[Any] = np.asarray(image)
        image = ImageModule.fromarray(np.round(deep / 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = ImageModule.alpha_composite(ImageModule.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


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
                if not place.is_file():  # a pipe would be waited for
                    raise DataError("is no file" if place.exists() else "does not exist")
                found = place.read_bytes()
            else:
                with _ONE_READS:  # several threads come to the next file at once
                    column = self.column(place[0])
                value = column[place[1]].as_py()
                found = value.get("bytes") if isinstance(value, dict) else value
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if not found:
            raise DataError(
                "is empty (0 bytes)" if self.column is None else "has no picture in it, only a path or null"
            )
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

        def digest(index: int) -> str:
            try:
                return hashlib.sha256(self.content(index)).hexdigest()
            except DataError:
                return f"unreadable {self.shown(index)}"  # so that nothing is found for it once it can be read

        with ThreadPoolExecutor(max_workers=_threads()) as pool:
            return list(pool.map(digest, range(len(self))))

    def headers(self) -> tuple[int, bool, float]:
        """Returns the median of the shorter sides, whether all are grey, and the share of extreme shapes.

        Raises:
            DataError: None can be read.
        """
        headers, unreadable = [], []
        with decoding():
            for index in range(len(self)):
                try:
                    headers.append(read_header(self.content(index)))
                except DataError as error:  # those that cannot be decoded are named later, together
                    unreadable.append(f"{self.shown(index)}: {error}")
        if not headers:
            raise DataError(f"{self.root}: no training picture can be read; the first: {unreadable[0]}")
        extreme = sum(max(size) > _EXTREME * min(size) for size, _ in headers)
        side = statistics.median(min(size) for size, _ in headers)
        return int(side), all(is_grey for _, is_grey in headers), extreme / len(headers)

    def unreadable(self) -> dict[int, str]:
        """Returns why pictures cannot be decoded, by index; all are decoded for that."""
        reasons: dict[int, str] = {}
        for _ in self.each(partial(decode, channels=1, size=(1, 1), fit="stretch"), range(len(self)), reasons):
            pass
        return reasons

    def each(
        self, work: Callable[[bytes], Result], indices: Sequence[int], reasons: dict[int, str]
    ) -> Iterator[dict[int, Result]]:
        """Gives what `work` makes of the contents of pictures, in threads: results by index, some at a time.

        Args:
            work: Called with the bytes of a picture, in several threads.
            indices: Which pictures.
            reasons: Takes up why pictures are left out, those of which it raises DataError.
        """

        def one(index: int) -> Result | None:
            try:
                return work(self.content(index))
            except DataError as error:
                reasons[index] = str(error)
                return None
            except Exception as error:  # of a thread nobody would know at which picture it was
                what = f"cannot be read here ({type(error).__name__}: {error})"
                raise DataError(f"{self.root}: {self.shown(index)}: {what}") from error

        # A thread of ours for each core, and in it one of torch's: so no result hangs on how many there are.
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(max_workers=_threads(), initializer=torch.set_num_threads, initargs=(1,))
        try:
            with decoding():
                for begin in range(0, len(indices), AT_ONCE):
                    some = indices[begin : begin + AT_ONCE]
                    results = zip(some, pool.map(one, some), strict=True)
                    yield {index: result for index, result in results if result is not None}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)  # Ctrl-C waits for the pictures at work, not for all
            torch.set_num_threads(before)

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


def size_notes(image_size: ImageSize, fit: Fit, size: int, typical: int, extreme: float) -> tuple[str, ...]:
    """Returns which size `auto` took of the training pictures, and whether many of them are cut.

    Args:
        image_size: As it was asked for.
        fit: How pictures are brought to it.
        size: What they become.
        typical: Median of their shorter sides.
        extreme: Share of those with an extreme shape.
    """
    notes = []
    if image_size == "auto":
        why = f"for the median of the training pictures' shorter sides is {typical:,}"
        notes.append(f"pictures become {size} x {size}, {why}; another size: --set data.image_size=NUMBER")
    if fit == "crop" and extreme > _MANY_EXTREME:
        share = f"{extreme:.0%} of the training pictures have a side more than {_EXTREME} times as long as the other"
        notes.append(f"{share} and are cut to their middle; to keep all of them: --set data.fit=pad")
    return tuple(notes)


def _threads() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MOST_THREADS, there)
