"""The inputs of parquet files: pictures, decoded and described once, and vectors."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from labelembed.data.cache import cached_array, file_digest
from labelembed.data.checks import require_finite, require_size
from labelembed.data.files.parquet import Column, read_column
from labelembed.data.picture_features import FEATURES_VERSION, gradient_histograms
from labelembed.data.picture_files import ReadingProgress
from labelembed.data.pictures import bombs_refused, decode_picture
from labelembed.errors import DataError

# Part of the cache's key: another number where the same files give other pixels.
_PIXELS_VERSION = 1
# The same of features: another number where pictures get another number of channels.
_CHANNELS_VERSION = 2
_ROWS_A_TASK = 512
_PIXELS_FOR_THREADS = 128 * 128

Array = npt.NDArray[Any]
Features = Literal["pixels", "gradient_histograms"]


def read_vectors(files: list[Path], column: Column) -> Array:
    """Returns the rows [N, F] of a column of lists of numbers, float32.

    Raises:
        DataError: A file or a row cannot be used.
    """
    import pyarrow.compute as compute

    parts: list[Array] = []
    width: int | None = None
    for file, chunks in zip(files, read_column(files, column), strict=True):
        lengths = compute.list_value_length(chunks).to_numpy()
        if len(lengths) == 0:
            continue
        width = int(lengths[0]) if width is None and lengths[0] == lengths[0] else width
        wrong = np.asarray(lengths != (width or 0)) | (lengths == 0)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{file}: row {row} of column {column.name!r} has {lengths[row]} numbers; expected {width or 'some'}, "
                "as the first row has"
            )
        flat = compute.list_flatten(chunks)
        where = f"{file}: column {column.name!r}"
        if flat.null_count:
            row = int(np.asarray(flat.is_null()).argmax()) // (width or 1)
            raise DataError(f"{where}: row {row} has a number missing")
        values = flat.to_numpy().reshape(len(lengths), width or 0)
        require_finite(values, where)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        require_finite(values, f"{where} as float32")
        parts.append(values)
    if not parts:
        raise DataError(f"{files[0]}: has no rows")
    return np.concatenate(parts)


def read_pictures(
    shards: Mapping[str, list[Path]],
    column: Column,
    features: Features,
    folder: Path,
    progress: ReadingProgress | None = None,
) -> tuple[dict[str, Array], list[str]]:
    """Returns the pictures or their features, and what to say of them; all are grey where the training pictures are.

    They come from the cache where they are kept; `progress` hears of each split.
    """
    digests = {split: [file_digest(file) for file in files] for split, files in shards.items()}
    every = [digest for split in shards for digest in digests[split]]

    def pixels(split: str) -> Array:
        # The size is that of the first training picture, so the training files belong to the key of every split.
        made_from = {"what": "pixels", "version": _PIXELS_VERSION, "column": column.name, "split": split}
        return cached_array(made_from | {"files": every}, partial(decode, split))

    def decode(split: str) -> Array:
        return _decoded(shards[split], column, first=_first_size(shards["train"], column), progress=progress)

    def described(split: str) -> Array:
        version = [_PIXELS_VERSION, FEATURES_VERSION, _CHANNELS_VERSION]
        made_from = {"what": features, "version": version, "column": column.name}
        return cached_array(
            made_from | {"split": split, "files": every},
            lambda: gradient_histograms(channelled(split), where=str(folder)),
        )

    loaded: dict[str, Array] = {}

    def channelled(split: str) -> Array:
        """Returns the pictures with as many channels as the training pictures have."""
        for name in ("train", split):
            if name not in loaded:
                loaded[name] = pixels(name)
        array, channels = loaded[split], loaded["train"].shape[1]
        if array.shape[1] == channels:
            return array
        if channels == 3:
            return np.repeat(array, 3, axis=1)
        notes.append(f"{split} pictures with colours made grey, as the training pictures are")
        return _grey(array)

    notes: list[str] = []
    return {split: channelled(split) if features == "pixels" else described(split) for split in shards}, notes


def _grey(pictures: Array) -> Array:
    """Returns pictures [N, 3, height, width] in grey [N, 1, height, width]."""
    from PIL import Image

    return np.stack([np.asarray(Image.fromarray(p.transpose(1, 2, 0)).convert("L"))[np.newaxis] for p in pictures])


def _contents(files: list[Path], column: Column) -> list[tuple[str, bytes]]:
    """Returns (file and row, encoded picture) of every row."""
    rows = []
    for file, chunks in zip(files, read_column(files, column), strict=True):
        for row, value in enumerate(chunks.to_pylist()):
            content = value.get("bytes") if isinstance(value, dict) else value
            where = f"{file}: row {row} of column {column.name!r}"
            if not content:
                raise DataError(f"{where}: has no picture in it (a path alone cannot be read)")
            rows.append((where, content))
    if not rows:
        raise DataError(f"{files[0]}: has no rows")
    return rows


def _first_size(files: list[Path], column: Column) -> tuple[int, int]:
    where, content = _contents(files[:1], column)[0]
    with bombs_refused():
        height, width = decode_picture(content, where, size=None).shape[:2]
    return height, width


def _decoded(
    files: list[Path], column: Column, *, first: tuple[int, int], progress: ReadingProgress | None = None
) -> Array:
    """Returns pictures [N, C, height, width], C = 1 where all are grey and otherwise 3."""
    rows = _contents(files, column)
    require_size((len(rows), 3, *first), 1, f"{files[0].parent}: the decoded pictures")

    def decode(begin: int) -> list[Array]:
        return [decode_picture(content, where, size=first) for where, content in rows[begin : begin + _ROWS_A_TASK]]

    # Of small pictures most of the time goes to Python itself, where threads only wait for each other.
    workers = min(8, os.cpu_count() or 1) if math.prod(first) >= _PIXELS_FOR_THREADS else 1
    with bombs_refused(), ThreadPoolExecutor(max_workers=workers) as threads:
        decoded: list[Array] = []
        for part in threads.map(decode, range(0, len(rows), _ROWS_A_TASK)):
            decoded += part
            if progress is not None:
                progress(len(decoded), len(rows))
    channels = 3 if any(picture.ndim == 3 for picture in decoded) else 1
    pixels = np.empty((len(rows), channels, *first), dtype=np.uint8)
    for row, picture in enumerate(decoded):
        pixels[row] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return pixels
