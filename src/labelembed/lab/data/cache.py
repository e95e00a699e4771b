"""Arrays that take long to make, kept between runs as ``.npy`` files and found again by what they were made from.

Arrays too large for the memory lie in files of the same folder, and the system reads in what is looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import tempfile
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
    """Returns the SHA-256 of a file's content.

    Raises:
        DataError: It cannot be read.
    """
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


def cached_array(made_from: Mapping[str, Any], make: Callable[[], Array]) -> Array:
    """Returns the array kept for `made_from`, or makes and keeps it; see `cached_with_notes`."""
    return cached_with_notes(made_from, lambda new_array: (make(), None))[0]


def cached_with_notes(made_from: Mapping[str, Any], make: Callable[[NewArray], tuple[Array, Any]]) -> tuple[Array, Any]:
    """Returns the array kept for `made_from` and what was noted of it, or makes and keeps both.

    The array is ``KEY.npy`` in the folder of the cache, with ``KEY.json`` beside it, which says what it was made from.
    What is missing or cut off is made again, and a cache that cannot be written (a full disk, a folder of somebody
    else's) costs only time. An array of more than `MAPPED_ABOVE_BYTES` is written into its file right away and
    read from there as it is needed; changes to it stay in memory.

    Args:
        made_from: All that the array depends on, as JSON: digests of files, settings, and a version of the code.
        make: Is given a function that returns an array of zeros of a shape, uint8; returns an array and what is to be
            noted of it, as JSON.

    Raises:
        DataError: The array needs a file, and the folder of the cache cannot be written or has no room for it.
    """
    folder, name = cache_folder(), _name_of(made_from)
    array_file, about_file = folder / f"{name}.npy", folder / f"{name}.json"
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, EOFError):
        about = json.loads(about_file.read_text(encoding="utf-8"))
        return _loaded(array_file), about["noted"]
    # several runs may make the same array at once: each writes files of its own, the last rename stays
    new_file, new_about = folder / f".{name}-{os.getpid()}.npy", folder / f".{name}-{os.getpid()}.json"

    def new_array(shape: tuple[int, ...]) -> Array:
        if math.prod(shape) <= MAPPED_ABOVE_BYTES:
            return np.zeros(shape, np.uint8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            array: Array = np.lib.format.open_memmap(new_file, mode="w+", dtype=np.uint8, shape=shape)
            reserve(new_file, new_file.stat().st_size)
            return array
        except OSError as error:
            raise DataError(
                f"the decoded pictures take {math.prod(shape) / 2**30:.1f} GiB, for which {folder} has no room "
                f"({error.strerror or error}); make them smaller with --set data.image_size=..., or name another "
                f"folder in {CACHE_VARIABLE}"
            ) from None

    try:
        array, noted = make(new_array)
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if isinstance(array, np.memmap):
                array.flush()
            else:
                with new_file.open("wb") as stream:
                    np.lib.format.write_array(stream, array, allow_pickle=False)
            about = {"made_from": made_from, "noted": noted}
            new_about.write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")
            os.replace(new_about, about_file)
            os.replace(new_file, array_file)
            if isinstance(array, np.memmap):
                array = _loaded(array_file)
        return array, noted
    finally:
        for file in (new_file, new_about):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def reserve(file: Path, size: int) -> None:
    """Makes `file` as long as `size` bytes, with room on the disk for all of them.

    A mapped file without that room would end the process with a bus error where the disk fills up.

    Raises:
        OSError: There is no room.
    """
    with file.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)


def nameless_array(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Returns an array in a nameless file of the cache's folder, which goes when the array does.

    Raises:
        OSError: The folder cannot be written, or the disk has no room.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".examples-", dir=folder)
    os.close(descriptor)
    file = Path(name)
    try:
        reserve(file, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    finally:
        with contextlib.suppress(OSError):  # where an open file cannot be removed it stays
            file.unlink()


def _loaded(file: Path) -> Array:
    """Returns a kept array; of a large one, what is looked at is read then, and what is changed stays in memory."""
    array: Array = np.load(file, mmap_mode="c" if file.stat().st_size > MAPPED_ABOVE_BYTES else None)
    return array


def _name_of(made_from: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]
