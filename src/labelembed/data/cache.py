"""Arrays that take long to make, kept between runs and found again by the content they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.data import mapped
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
    key = _key_of(made_from)
    name = _name_of(key)
    folder = cache_folder()
    kept = _kept(folder / f"{name}.npy", folder / f"{name}.json")
    if kept is not None:
        return kept
    array = make()
    with contextlib.suppress(OSError):
        _keep(array, folder, name, key)
    return array


def forget_array(made_from: Mapping[str, Any]) -> None:
    """Removes what `cached_array` kept, where it did."""
    name = _name_of(_key_of(made_from))
    for file in (cache_folder() / f"{name}.json", cache_folder() / f"{name}.npy"):
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def cached_bytes(
    made_from: Mapping[str, Any], make: Callable[[Callable[[tuple[int, ...]], Array]], tuple[Array, Any]]
) -> tuple[Array, Any]:
    """Returns an array of bytes kept for `made_from` with what was noted of it, or makes and keeps both.

    As `cached_array`, but the array may be larger than the memory: one of more than `mapped.MAPPED_ABOVE_BYTES` is
    written into its file right away and read from there as it is needed; changes to it stay in memory.

    Args:
        made_from: As in `cached_array`.
        make: Is given a function that returns an array of zeros of a shape, uint8, fills it, and returns it with
            what is to be noted, as JSON.

    Raises:
        DataError: The array needs a file, and the folder of the cache cannot be written or has no room for it.
    """
    key = _key_of(made_from)
    name = _name_of(key)
    folder = cache_folder()
    array_file, manifest = folder / f"{name}.npy", folder / f"{name}.json"
    kept = _kept(array_file, manifest)
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return kept, json.loads(json.loads(manifest.read_text(encoding="utf-8"))["noted"])
    being_made = folder / f".{name}-{os.getpid()}-made.npy"

    def zeros(shape: tuple[int, ...]) -> Array:
        if math.prod(shape) <= mapped.MAPPED_ABOVE_BYTES:
            return np.zeros(shape, np.uint8)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with being_made.open("wb") as stream:
                header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False}
                np.lib.format.write_array_header_1_0(stream, header | {"shape": shape})
                begin = stream.tell()
            mapped.reserve(being_made, begin + math.prod(shape))
            return np.memmap(being_made, dtype=np.uint8, mode="r+", offset=begin, shape=shape)
        except OSError as error:
            raise DataError(
                f"the decoded pictures take {math.prod(shape) / 2**30:.1f} GiB, for which {folder} has no room "
                f"({error.strerror or error}); make them smaller with --set data.image_size=..., or name another "
                f"folder in {CACHE_VARIABLE}"
            ) from None

    try:
        array, noted = make(zeros)
        with contextlib.suppress(OSError):
            made_file = None
            if isinstance(array, np.memmap):
                array.flush()
                made_file = being_made
            _keep(array, folder, name, key, noted=json.dumps(noted), made_file=made_file)
            if made_file is not None:
                array = _mapped(array_file)
        return array, noted
    finally:
        being_made.unlink(missing_ok=True)


def _mapped(array_file: Path) -> Array:
    """Returns the array of an npy file, mapped; what is changed in it stays in memory."""
    return np.lib.format.open_memmap(array_file, mode="c")


def _kept(array_file: Path, manifest: Path) -> Array | None:
    try:
        noted = json.loads(manifest.read_text(encoding="utf-8"))
        if noted["sha256"] != file_digest(array_file) or noted.get("noted_sha256") != _digest(noted.get("noted")):
            return None
        length = array_file.stat().st_size
        if length > mapped.MAPPED_ABOVE_BYTES:
            return _mapped(array_file)
        array: Array = np.load(array_file, allow_pickle=False)
        return array
    except (OSError, ValueError, LookupError, TypeError, AttributeError, DataError):
        return None


def _key_of(made_from: Mapping[str, Any]) -> str:
    return json.dumps(made_from, sort_keys=True, ensure_ascii=False)


def _name_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _digest(noted: str | None) -> str | None:
    return None if noted is None else hashlib.sha256(noted.encode()).hexdigest()


def _keep(
    array: Array, folder: Path, name: str, key: str, *, noted: str | None = None, made_file: Path | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # several runs may make the same array at once: each writes a file of its own, the last rename stays
    array_file = made_file or folder / f".{name}-{os.getpid()}.npy"
    manifest = folder / f".{name}-{os.getpid()}.json"
    try:
        if made_file is None:
            with array_file.open("wb") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
        about = {"sha256": file_digest(array_file), "made_from": json.loads(key)}
        if noted is not None:
            about |= {"noted": noted, "noted_sha256": _digest(noted)}
        manifest.write_text(json.dumps(about, indent=2, ensure_ascii=False), encoding="utf-8")
        os.replace(array_file, folder / f"{name}.npy")
        os.replace(manifest, folder / f"{name}.json")
    except DataError as error:  # the file was taken away under our hands
        raise OSError(str(error)) from None
    finally:
        array_file.unlink(missing_ok=True)
        manifest.unlink(missing_ok=True)
