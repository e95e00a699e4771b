"""Arrays that take long to make, kept between runs and found again by the content they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.data.streams import read_npy
from labelembed.errors import DataError

#: Names the folder of the cache; without it `~/.cache/labelembed`.
CACHE_VARIABLE = "LABELEMBED_CACHE"

Array = npt.NDArray[Any]


def cache_folder() -> Path:
    """Returns the folder of the cache; it need not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/labelembed").expanduser()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def cached_array(made_from: Mapping[str, Any], make: Callable[[], Array]) -> Array:
    """Returns the array kept for `made_from`, or makes and keeps it.

    An array stands as ``NAME.npy`` beside ``NAME.json`` with its SHA-256; both are written under temporary names
    and renamed. What is missing or damaged is made anew, and a cache that cannot be written (a full disk, a
    folder of somebody else's) costs only time: no fault of the cache is an error.

    Args:
        made_from: All that the array depends on, as JSON: digests of files, settings, and a version of the code.
        make: Makes the array.
    """
    key = json.dumps(made_from, sort_keys=True, ensure_ascii=False)
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    folder = cache_folder()
    kept = _kept(folder / f"{name}.npy", folder / f"{name}.json")
    if kept is not None:
        return kept
    array = make()
    with contextlib.suppress(OSError):
        _keep(array, folder, name, key)
    return array


def _kept(array_file: Path, manifest: Path) -> Array | None:
    try:
        noted = json.loads(manifest.read_text(encoding="utf-8"))
        if file_digest(array_file) != noted["sha256"]:
            return None
        with array_file.open("rb") as stream:
            return read_npy(stream, length=os.fstat(stream.fileno()).st_size, where=str(array_file))
    except (OSError, ValueError, LookupError, TypeError, DataError):
        return None


def _keep(array: Array, folder: Path, name: str, key: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # several runs may make the same array at once: each writes a file of its own, the last rename stays
    array_file = folder / f".{name}-{os.getpid()}.npy"
    manifest = folder / f".{name}-{os.getpid()}.json"
    try:
        with array_file.open("wb") as stream:
            np.lib.format.write_array(stream, array, allow_pickle=False)
        noted = {"sha256": file_digest(array_file), "made_from": json.loads(key)}
        manifest.write_text(json.dumps(noted, indent=2, ensure_ascii=False), encoding="utf-8")
        os.replace(array_file, folder / f"{name}.npy")
        os.replace(manifest, folder / f"{name}.json")
    except DataError as error:  # the file was taken away under our hands
        raise OSError(str(error)) from None
    finally:
        array_file.unlink(missing_ok=True)
        manifest.unlink(missing_ok=True)
