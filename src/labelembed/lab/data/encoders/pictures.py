"""Many picture files into one array: decoded and resized once, and kept in the cache."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError
from labelembed.lab.data.cache import NewArray, cached_array, cached_with_notes
from labelembed.lab.data.checks import printable
from labelembed.lab.data.data_notes import repeated_pictures
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.encoders.gradient_histograms import FEATURES_VERSION, gradient_histograms
from labelembed.lab.data.files.picture import (
    Fit,
    Header,
    ImageSize,
    automatic_side,
    decode,
    decoding,
    is_extreme,
    look,
    typical_side,
)

# Part of the cache's key: another number where the same files give other pixels or notes.
_VERSION = 4
_PICTURES_A_TASK = 64
_PIXELS_FOR_THREADS = 128 * 128

Array = npt.NDArray[Any]
Result = TypeVar("Result")


class PictureSource(Protocol):
    """Where encoded pictures lie: files of a folder, or values of a column; a place is what names one of them."""

    def content(self, place: Any) -> bytes:
        """Returns the bytes of a picture; raises DataError with the reason, not the place, where there are none."""
        ...

    def shown(self, place: Any) -> str:
        """Returns how messages name a picture."""
        ...

    def digest(self, places: Sequence[Any]) -> str:
        """Returns a text that is another one where any of the pictures is, without decoding one."""
        ...


class PictureFolder:
    """Pictures that are files; a place is a path.

    Args:
        root: The folder that names in messages are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def content(self, place: Path) -> bytes:
        """Returns the bytes of a file."""
        try:
            if not place.is_file():
                raise DataError("is no ordinary file" if place.exists() else "does not exist")
            content = place.read_bytes()
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
        if not content:
            raise DataError("is empty (0 bytes)")
        return content

    def shown(self, place: Path) -> str:
        """Returns a file's name below the root, with slashes."""
        return printable(place.relative_to(self.root).as_posix() if place.is_relative_to(self.root) else str(place))

    def digest(self, places: Sequence[Path]) -> str:
        """Returns the SHA-256 of the contents of the files; their names say nothing."""
        with ThreadPoolExecutor(max_workers=_cores()) as threads:
            return hashlib.sha256("".join(threads.map(_digest, places)).encode()).hexdigest()


class DecodedPictures(NamedTuple):
    """Decoded pictures and what is to be said of them.

    Attributes:
        pixels: uint8 [N, C, height, width], C = 1 where every training picture is grey and otherwise 3; those of
            unreadable files are 0. Very many lie in a file of the cache (see `cache.cached_with_notes`).
        unreadable: Why a picture could not be read, by index.
        converted: How many pictures were changed, by what was done.
        repeated: (index, earlier index) of pictures that are the same.
        typical: The `typical_side` of the training pictures as they are stored.
        extreme: How many pictures are of an extreme shape, see `is_extreme`.
    """

    pixels: Array
    unreadable: dict[int, str]
    converted: dict[str, int]
    repeated: list[tuple[int, int]]
    typical: int
    extreme: int


def decode_pictures(
    source: PictureSource,
    places: Sequence[Any],
    *,
    where: str,
    image_size: ImageSize,
    fit: Fit,
    trained: int | None = None,
    channels: int | None = None,
    progress: ReadingProgress | None = None,
) -> DecodedPictures:
    """Returns the pictures, from the cache where the same content was decoded before.

    Args:
        source: Where they lie.
        places: Which, at least one.
        where: The data set, for messages.
        image_size: Height and width of the result, see `ImageSize`.
        fit: How pictures of other proportions are brought to it.
        trained: How many of them, the first ones, are training pictures; None: all. Whether these are all grey decides
            whether all become grey or coloured.
        channels: 1, grey, or 3; None: see `trained`.
        progress: Called while pictures are decoded, not where they come from the cache.

    Raises:
        DataError: None can be read, or they have several sizes and there is no `image_size`.
    """
    trained = len(places) if trained is None else trained
    made_from = {
        "what": "pictures",
        "version": _VERSION,
        "files": source.digest(places),
        "trained": trained,
        "size": None if image_size is None else [image_size, fit],
    }
    made_from |= {} if channels is None else {"channels": channels}
    pixels, noted = cached_with_notes(
        made_from, partial(_decoded, source, places, where, trained, image_size, fit, channels, progress)
    )
    return DecodedPictures(
        pixels,
        {int(index): str(reason) for index, reason in noted["unreadable"]},
        {str(what): int(count) for what, count in noted["converted"].items()},
        [(int(index), int(earlier)) for index, earlier in noted["repeated"]],
        int(noted["typical"]),
        int(noted["extreme"]),
    )


def cached_gradient_histograms(pixels: Array, where: str) -> Array:
    """Returns the features [N, F] of pictures [N, C, H, W], from the cache where they were computed before."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
    made_from = {"what": "gradient histograms", "version": FEATURES_VERSION, "pixels": [digest, *pixels.shape]}
    return cached_array(made_from, lambda: gradient_histograms(pixels, where=where))


def _decoded(
    source: PictureSource,
    places: Sequence[Any],
    where: str,
    trained: int,
    image_size: ImageSize,
    fit: Fit,
    channels: int | None,
    progress: ReadingProgress | None,
    new_array: NewArray,
) -> tuple[Array, Any]:
    """Returns the pictures and what is noted of them, see `decode_pictures`; none is in the cache."""
    headers: dict[int, Header] = {}
    unreadable: dict[int, str] = {}
    with decoding():
        for index, place in enumerate(places):
            try:
                headers[index] = look(source.content(place))
            except DataError as error:
                unreadable[index] = str(error)
    if not headers:
        reason = f"{source.shown(places[0])}: {unreadable[0]}"
        raise DataError(f"{where}: none of its {len(places):,} pictures can be read; the first: {reason}")
    of_training = [header for index, header in headers.items() if index < trained]
    typical = typical_side(header.size for header in of_training or headers.values())
    if image_size is None:
        size = _one_size(source, places, where, headers)
    else:
        side = automatic_side(typical) if image_size == "auto" else image_size
        size = (side, side)
    channels = channels or (1 if all(header.is_grey for header in of_training) else 3)
    pixels = new_array((len(places), channels, *size))
    converted: Counter[str] = Counter()

    def decode_some(indices: Sequence[int]) -> tuple[Counter[str], dict[int, str]]:
        changed: Counter[str] = Counter()
        reasons: dict[int, str] = {}
        for index in indices:
            try:
                content = source.content(places[index])
                pixels[index], changes = decode(content, channels=channels, size=size, fit=fit)
                changed.update(changes)
            except DataError as error:
                reasons[index] = str(error)
            except Exception as error:  # of a thread nobody would know at which picture it was
                what = f"cannot be decoded here ({type(error).__name__}: {error})"
                raise DataError(f"{source.shown(places[index])}: {what}") from error
        return changed, reasons

    # Of small pictures most of the time goes to Python itself, where threads only wait for each other.
    large = np.median([header.size[0] * header.size[1] for header in headers.values()]) >= _PIXELS_FOR_THREADS
    indices = list(headers)
    tasks = [indices[begin : begin + _PICTURES_A_TASK] for begin in range(0, len(indices), _PICTURES_A_TASK)]
    done = 0
    for task, (changed, reasons) in zip(tasks, _in_threads(decode_some, tasks, _cores() if large else 1), strict=True):
        converted.update(changed)
        unreadable.update(reasons)
        done += len(task)
        if progress is not None:
            progress(done, len(headers))
    return pixels, {
        "unreadable": sorted(unreadable.items()),
        "converted": dict(sorted(converted.items())),
        "repeated": [pair for pair in repeated_pictures(pixels) if not unreadable.keys() & set(pair)],
        "typical": typical,
        "extreme": sum(is_extreme(header.size) for header in headers.values()),
    }


def _one_size(source: PictureSource, places: Sequence[Any], where: str, headers: dict[int, Header]) -> tuple[int, int]:
    sizes = Counter(header.size for header in headers.values())
    if len(sizes) > 1:
        first = next(iter(headers))
        other = next(index for index, header in headers.items() if header.size != headers[first].size)
        examples = " and ".join(
            f"{source.shown(places[index])} ({headers[index].size[1]} x {headers[index].size[0]})"
            for index in (first, other)
        )
        raise DataError(
            f"{where}: the pictures have {len(sizes):,} sizes, for instance {examples}; bring them to one, "
            "for instance with --set data.image_size=64 (and data.fit: crop, stretch or pad)"
        )
    return next(iter(sizes))


def _in_threads(work: Callable[[Sequence[int]], Result], tasks: list[list[int]], workers: int) -> Iterator[Result]:
    with decoding():
        threads = ThreadPoolExecutor(max_workers=workers)
        try:
            yield from threads.map(work, tasks)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)  # Ctrl-C waits for the tasks at work, not for all


def _cores() -> int:
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, there)


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ValueError):
        return f"unreadable {file}"  # a name of its own, so that nothing is found for it once it can be read
