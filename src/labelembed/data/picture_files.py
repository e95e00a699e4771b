"""Many picture files into one array: read, converted and resized once, and kept in the cache."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from labelembed.data.cache import cached_bytes
from labelembed.data.checks import printable
from labelembed.data.data_notes import repeated_rows
from labelembed.data.picture_fitting import (
    Fit,
    ImageSize,
    automatic_side,
    fitted,
    is_extreme,
    reduce_while_decoding,
    typical_side,
)
from labelembed.data.pictures import FORMATS, bombs_refused, plain_picture
from labelembed.errors import DataError

#: Called with (pictures done, pictures in all) while they are decoded.
ReadingProgress = Callable[[int, int], None]

# Part of the cache's key: another number where the same files give other pixels or notes.
_VERSION = 3
_FILES_A_TASK = 64
_PIXELS_FOR_THREADS = 128 * 128
_MAXIMUM_FILE_BYTES = 2**29
_GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")

Array = npt.NDArray[Any]


class PictureRows(NamedTuple):
    """Decoded pictures, a row a file.

    Attributes:
        pixels: uint8 [N, C, height, width], C = 1 where every training picture is grey and otherwise 3; rows of
            unreadable files are 0. Of very many pictures it lies in a file of the cache (see `cache.cached_bytes`).
        unreadable: Why a file could not be read, by row.
        converted: How many pictures were changed, by what was done.
        repeated: (row, earlier row) of pictures that are the same.
        typical: The `typical_side` of the training pictures as they are stored.
        extreme: How many pictures are of an extreme shape, see `is_extreme`.
    """

    pixels: Array
    unreadable: dict[int, str]
    converted: dict[str, int]
    repeated: list[tuple[int, int]]
    typical: int
    extreme: int


class _Header(NamedTuple):
    size: tuple[int, int]  # height, width
    grey: bool


def read_picture_files(
    files: Sequence[Path],
    *,
    root: Path,
    image_size: ImageSize,
    fit: Fit,
    trained: int | None = None,
    progress: ReadingProgress | None = None,
) -> PictureRows:
    """Returns the pictures of files, from the cache where the same content was decoded before.

    Args:
        files: The files, at least one.
        root: The folder that names in messages are relative to.
        image_size: Height and width of the result, see `ImageSize`.
        fit: How pictures of other proportions are brought to it.
        trained: How many of the files, the first ones, are training pictures; None: all. Whether these are all grey
            decides whether all become grey or coloured.
        progress: Called while pictures are decoded, not where they come from the cache.

    Raises:
        DataError: No file is a picture, or the pictures have several sizes and there is no `image_size`.
    """
    trained = len(files) if trained is None else trained
    with ThreadPoolExecutor(max_workers=_cores()) as threads:
        tasks = [files[begin : begin + _FILES_A_TASK] for begin in range(0, len(files), _FILES_A_TASK)]
        digests = [
            digest for part in threads.map(lambda task: [_digest(file) for file in task], tasks) for digest in part
        ]
    made_from = {
        "what": "picture files",
        "version": _VERSION,
        "files": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "trained": trained,
        "size": None if image_size is None else [image_size, fit],
    }

    def make(zeros: Callable[[tuple[int, ...]], Array]) -> tuple[Array, Any]:
        return _made(files, root, trained, image_size, fit, zeros, progress or (lambda done, total: None))

    pixels, noted = cached_bytes(made_from, make)
    return PictureRows(
        pixels,
        {int(row): str(reason) for row, reason in noted["unreadable"]},
        {str(what): int(count) for what, count in noted["converted"].items()},
        [(int(row), int(earlier)) for row, earlier in noted["repeated"]],
        int(noted["typical"]),
        int(noted["extreme"]),
    )


def shown_file(file: Path, root: Path) -> str:
    """Returns a file's name as it stands in messages: below `root`, with slashes."""
    return printable(file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file))


def _cores() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, there)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return f"unreadable {file}"  # a name of its own, so that nothing is found for it once it can be read


def _made(
    files: Sequence[Path],
    root: Path,
    trained: int,
    image_size: ImageSize,
    fit: Fit,
    zeros: Callable[[tuple[int, ...]], Array],
    progress: ReadingProgress,
) -> tuple[Array, Any]:
    unreadable: dict[int, str] = {}
    headers: dict[int, _Header] = {}
    with bombs_refused():
        for row, file in enumerate(files):
            try:
                headers[row] = _header(file)
            except DataError as error:
                unreadable[row] = str(error)
    if not headers:
        reason = f"{shown_file(files[0], root)}: {unreadable[0]}"
        raise DataError(f"{root}: none of its {len(files):,} pictures can be read; the first: {reason}")
    sizes = [header.size for row, header in headers.items() if row < trained]
    typical = typical_side(sizes or [header.size for header in headers.values()])
    if image_size is None:
        size = _one_size(files, headers, root)
    else:
        side = automatic_side(typical) if image_size == "auto" else image_size
        size = (side, side)
    channels = 1 if all(header.grey for row, header in headers.items() if row < trained) else 3
    pixels = zeros((len(files), channels, *size))
    converted: Counter[str] = Counter()
    pixels_each = np.median([header.size[0] * header.size[1] for header in headers.values()])

    def decode(rows: Sequence[int]) -> tuple[Counter[str], dict[int, str]]:
        counts: Counter[str] = Counter()
        faults: dict[int, str] = {}
        for row in rows:
            try:
                picture, changes = _decoded(files[row], size, None if image_size is None else fit, channels)
            except DataError as error:
                faults[row] = str(error)
                continue
            except Exception as error:  # of a thread nobody would know at which file it was
                name, what = shown_file(files[row], root), f"{type(error).__name__}: {error}"
                raise DataError(f"{name}: cannot be decoded here ({what})") from error
            pixels[row] = picture
            counts.update(changes)
        return counts, faults

    rows = list(headers)
    tasks = [rows[begin : begin + _FILES_A_TASK] for begin in range(0, len(rows), _FILES_A_TASK)]
    # Of small pictures most of the time goes to Python itself, where threads only wait for each other.
    workers = _cores() if pixels_each >= _PIXELS_FOR_THREADS else 1
    done = 0
    for task, (counts, faults) in zip(tasks, _in_threads(decode, tasks, workers), strict=True):
        converted.update(counts)
        unreadable.update(faults)
        done += len(task)
        progress(done, len(rows))
    repeated = [pair for pair in repeated_rows(pixels) if not unreadable.keys() & set(pair)]
    noted = {"unreadable": sorted(unreadable.items()), "converted": dict(sorted(converted.items()))}
    extreme = sum(is_extreme(header.size) for header in headers.values())
    return pixels, noted | {"repeated": repeated, "typical": typical, "extreme": extreme}


def _in_threads(
    decode: Callable[[Sequence[int]], tuple[Counter[str], dict[int, str]]], tasks: list[list[int]], workers: int
) -> Iterator[tuple[Counter[str], dict[int, str]]]:
    with bombs_refused():
        threads = ThreadPoolExecutor(max_workers=workers)
        try:
            yield from threads.map(decode, tasks)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)  # Ctrl-C waits for the tasks at work, not for all


def _one_size(files: Sequence[Path], headers: dict[int, _Header], root: Path) -> tuple[int, int]:
    sizes = Counter(header.size for header in headers.values())
    if len(sizes) > 1:
        first = next(iter(headers))
        other = next(row for row, header in headers.items() if header.size != headers[first].size)
        examples = " and ".join(
            f"{shown_file(files[row], root)} ({headers[row].size[1]} x {headers[row].size[0]})"
            for row in (first, other)
        )
        raise DataError(
            f"{root}: the pictures have {len(sizes):,} sizes, for instance {examples}; bring them to one, for instance "
            "with --set data.image_size=64 (and data.fit: crop, stretch or pad)"
        )
    return next(iter(sizes))


def _content(file: Path) -> bytes:
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise DataError("is no ordinary file" if file.exists() else "does not exist")
        if size == 0:
            raise DataError("is empty (0 bytes)")
        if size > _MAXIMUM_FILE_BYTES:
            raise DataError(f"has {size:,} bytes, more than the {_MAXIMUM_FILE_BYTES:,} that a picture may have")
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError("does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None


def _header(file: Path) -> _Header:
    """Returns size and kind of a picture; of most formats only the beginning of the file is looked at."""
    with _opened(_content(file)) as image:
        height, width = image.height, image.width
        if _orientation(image) in (5, 6, 7, 8):
            height, width = width, height
        return _Header((height, width), image.mode in _GREY_MODES)


def _decoded(file: Path, size: tuple[int, int], fit: Fit | None, channels: int) -> tuple[Array, list[str]]:
    """Returns a picture [channels, height, width] and what was done to it."""
    from PIL import Image

    with _opened(_content(file)) as image:
        try:
            changes = _changes(image, channels)
            if fit is not None:
                reduce_while_decoding(image, size, fit)
            plain = plain_picture(image, "L" if channels == 1 else "RGB")
            if fit is not None:
                plain = fitted(plain, size, fit)
            pixels = np.array(plain, dtype=np.uint8)
        except DataError:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise DataError(_too_large()) from None
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
            raise DataError(f"is cut off or damaged ({error})") from None
    return (pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)), changes


def _opened(content: bytes) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise DataError("is damaged, or no picture whatever its name says") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(_too_large()) from None
    except Exception as error:
        raise DataError(f"is damaged ({error})") from None


def _too_large() -> str:
    from PIL import Image

    return f"has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, the limit"


def _orientation(image: Any) -> int:
    if "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged tags, which the pixels do not need
        return 1


def _changes(image: Any, channels: int) -> list[str]:
    """Returns what has to be done to a picture before it is L or RGB with 8 bits."""
    mode = image.mode
    found = []
    if channels == 3 and mode in _GREY_MODES:
        found.append("grey used for red, green and blue")
    if channels == 1 and mode not in _GREY_MODES:
        found.append("colours made grey, as the training pictures are")
    if mode.startswith("I;16") or ";16" in str([tile[3] for tile in image.tile]):
        found.append("16 bits a channel made 8")
    if mode in ("P", "PA"):
        found.append("colours from a palette")
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        found.append(f"{mode} made RGB")
    if image.has_transparency_data:
        found.append("alpha channel taken off, what is transparent made white")
    if getattr(image, "n_frames", 1) > 1:
        found.append("only the first of several frames used")
    if _orientation(image) != 1:
        found.append("turned as the camera's orientation says")
    return found
