"""Arrays that take long to make, kept between runs as ``.npy`` files and found again by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError

#: Names the folder of the cache; without it `~/.cache/labelembed`.
CACHE_VARIABLE = "LABELEMBED_CACHE"
#: Arrays that take more bytes than this lie in a file of the cache's folder instead of in memory.
MAPPED_ABOVE_BYTES = 2 * 2**30

Array = npt.NDArray[Any]
#: Returns an array of zeros of a shape, uint8, which may lie in a file.
NewArray = Callable[[tuple[int, ...]], Array]


def cache_folder() -> Path:
    """Returns the folder of the cache; it need not exist."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/labelembed").expanduser()


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content; raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def files_stamp(place: Path) -> str | None:
    """Returns a SHA-256 over path, size and times of a file, or of all files in a folder; None where one is missing.

    Where it is the same, nothing has changed; where it is another, only the content can tell.
    """
    digest = hashlib.sha256()
    try:
        for path in [place, *sorted(place.rglob("*"))]:
            about = path.stat()
            known = [str(path.absolute()), about.st_size, about.st_mtime_ns, about.st_ctime_ns]
            digest.update(json.dumps(known).encode() if path.is_file() else b"")
    except OSError:
        return None
    return digest.hexdigest()


def cached_file(file: Path, make: Callable[[], Array]) -> Array:
    """Returns the small array kept in a ``.npy`` file of the cache, or makes and keeps it; damage counts for nothing.

    For arrays by the thousand, each found by its name; what cannot be written costs only time.
    """
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept: Array = np.load(file)
        return kept
    array = make()
    new_file = file.with_name(f".{file.stem}-{os.getpid()}-{threading.get_ident()}.npy")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            np.save(new_file, array, allow_pickle=False)
            os.replace(new_file, file)
        finally:
            new_file.unlink(missing_ok=True)
    return array


def cached_array(cache_key: Mapping[str, Any], make: Callable[[], Array]) -> Array:
    """Returns the array kept for `cache_key`, or makes and keeps it; see `cached_with_notes`."""
    return cached_with_notes(cache_key, lambda new_array: (make(), None))[0]


def cached_with_notes(cache_key: Mapping[str, Any], make: Callable[[NewArray], tuple[Array, Any]]) -> tuple[Array, Any]:
    """Returns the array kept for `cache_key` and what was noted of it, or makes and keeps both.

    The array is ``KEY.npy`` in the folder of the cache, mapped, with ``KEY.json`` beside it; changes to it stay in
    memory. What is missing or cut off is made again, and a cache that cannot be written costs only time.

    Args:
        cache_key: All that the array depends on, as JSON: digests of files, settings, and a version of the code.
        make: Is given a function that returns an array of zeros of a shape, uint8; returns an array and what is to be
            noted of it, as JSON.

    Raises:
        DataError: The array is larger than `MAPPED_ABOVE_BYTES`, and the folder of the cache cannot be written.
    """
    folder = cache_folder()
    name = hashlib.sha256(json.dumps(cache_key, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]
    array_file, about_file = folder / f"{name}.npy", folder / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, EOFError):
        return np.load(array_file, mmap_mode="c"), json.loads(about_file.read_text(encoding="utf-8"))["noted"]
    # several runs may make the same array at once: each writes files of its own, the last rename stays
    new_array_file, new_about_file = folder / f".{name}-{os.getpid()}.npy", folder / f".{name}-{os.getpid()}.json"

    def new_array(shape: tuple[int, ...]) -> Array:
        if math.prod(shape) <= MAPPED_ABOVE_BYTES:
            return np.zeros(shape, np.uint8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return np.lib.format.open_memmap(new_array_file, mode="w+", dtype=np.uint8, shape=shape)
        except OSError as error:
            size = f"{math.prod(shape) / 2**30:.1f} GiB"
            raise DataError(
                f"{folder}: {size} cannot be written there ({error.strerror or error}); name another folder in "
                f"{CACHE_VARIABLE}"
            ) from None

    try:
        array, noted = make(new_array)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if isinstance(array, np.memmap):
                array.flush()
            else:
                np.save(new_array_file, array, allow_pickle=False)
            about = {"cache_key": cache_key, "noted": noted}
            new_about_file.write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")
            os.replace(new_about_file, about_file)
            os.replace(new_array_file, array_file)
            if isinstance(array, np.memmap):
                array = np.load(array_file, mmap_mode="c")
        return array, noted
    finally:
        for file in (new_array_file, new_about_file):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
