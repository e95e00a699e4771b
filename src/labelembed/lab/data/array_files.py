"""Files of arrays: NumPy's npy and npz, of which nothing is unpickled, and the idx files of the MNIST family."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import content_of, few, require_file, sizes
from labelembed.lab.data.splits import PARTS

ACCEPTED = (
    "an .npz file (np.savez) with the arrays train_inputs, train_labels, test_inputs, test_labels, or inputs and "
    "labels, and, if wanted, validation_inputs, validation_labels and names; or a folder of such .npy files"
)
_TRAIN, _TEST = ("train_inputs", "train_labels"), ("test_inputs", "test_labels")
_WHOLE = ("inputs", "labels")
_VALIDATION = {name: (f"{name}_inputs", f"{name}_labels") for name, part in PARTS.items() if part == "validation"}
# third byte of the header -> the numbers that follow, most significant byte first
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

Array = npt.NDArray[Any]


def read_named_arrays(place: Path) -> dict[str, Array]:
    """Returns the arrays of an npz file or of a folder of npy files by the reader's names, and `names` if there.

    Those of a validation set, however it is called, are `validation_inputs` and `validation_labels`. In a folder the
    names may be a text file, ``names.txt``, with a name a line.

    Raises:
        DataError: The place or an array is missing, or a file is damaged; nothing is unpickled.
    """
    if place.is_dir():
        with damage_named(place):
            files = {entry.stem: entry for entry in place.iterdir() if entry.suffix == ".npy"}
        if not files:
            raise DataError(f"{place}: is a folder; expected {ACCEPTED}")
        arrays = {name: read_npy(files[called]) for name, called in _wanted(set(files), place).items()}
        text = place / "names.txt"
        if "names" not in arrays and text.is_file():
            with damage_named(text):
                arrays["names"] = np.array(text.read_text(encoding="utf-8-sig").splitlines(), dtype=np.str_)
        return arrays
    require_file(place, ACCEPTED)
    with damage_named(place):
        if not zipfile.is_zipfile(place):
            raise DataError(f"{place}: expected {ACCEPTED}; it is no zip archive or damaged")
        arrays = {}
        # np.load leaves a file that it cannot read open, where it has opened it
        with place.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for name, called in _wanted(set(archive.files), place).items():
                with damage_named(f"{place}: {called}"):
                    arrays[name] = _usable(archive[called], f"{place}: {called}")
        return arrays


def read_npy(file: Path) -> Array:
    """Returns the array of an npy file, mapped: what is looked at is read then, and changes stay in memory.

    Raises:
        DataError: The file is no npy array, cut off, or holds something else than numbers or text.
    """
    with damage_named(file):
        return _usable(np.load(file, mmap_mode="c", allow_pickle=False), str(file))


def _usable(array: Any, where: str) -> Array:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{where}: no npy array, cut off or damaged")
    if array.dtype.kind not in "biufSU" or array.dtype.itemsize == 0:
        raise DataError(f"{where}: expected numbers, found {array.dtype}")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


@contextmanager
def damage_named(where: Path | str) -> Iterator[None]:
    """Turns what NumPy and zipfile raise, each damage a type of its own, into DataError."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        if "allow_pickle" in reason or "Python objects" in reason:
            what = "holds Python objects (pickle), which are never loaded; save it as an array of numbers"
            raise DataError(f"{where}: {what}") from None
        raise DataError(f"{where}: cannot be read, cut off or damaged ({reason})") from None


def _wanted(there: set[str], place: Path) -> dict[str, str]:
    """Returns which of the arrays that are there to read, by what the reader calls them."""
    is_whole = there.issuperset(_WHOLE) and not there.intersection(_TRAIN + _TEST)
    validation = [pair for pair in _VALIDATION.values() if there.intersection(pair)]
    if len(validation) > 1:
        raise DataError(f"{place}: both {validation[0][0]} and {validation[1][0]} can be the validation set; keep one")
    has_test = there.intersection(_TEST) or not validation
    required = _WHOLE if is_whole else _TRAIN + (_TEST if has_test else ())
    wanted = {name: name for name in required}
    wanted |= {kept: name for pair in validation for kept, name in zip(_VALIDATION["validation"], pair, strict=True)}
    missing = [name for name in wanted.values() if name not in there]
    if missing:
        hint = nearest(missing[0], there.difference(_TRAIN, _TEST, _WHOLE))
        raise DataError(
            f"{place}: missing the arrays {', '.join(missing)}{hint}; it holds {few(sorted(there)) or 'none'}"
        )
    return wanted | ({"names": "names"} if "names" in there else {})


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Returns the array of an idx file, plain or gzip'd, in the shape declared and this machine's byte order.

    Raises:
        DataError: There is no such file, it is no idx file, cut off, too long or damaged.
    """
    require_file(path, "an idx file")
    content = content_of(path)
    begin = 4 + 4 * content[3] if looks_like_idx(content) else 0
    if not begin or len(content) < begin:
        found = content[:4].hex(" ") or "an empty file"
        raise DataError(f"{path}: is no idx file, or cut off within its header; it begins with {found}")
    dtype = np.dtype(_IDX_TYPES[content[2]])
    shape = tuple(np.frombuffer(content[4:begin], dtype=">u4").tolist())
    declared, held = math.prod(shape) * dtype.itemsize, len(content) - begin
    if declared != held:
        reason = "the file is cut off or its header is wrong" if held < declared else "bytes follow the array"
        what = f"{declared:,} bytes of values ({sizes(shape)} of {dtype.name})"
        raise DataError(f"{path}: expected {what}, found {held:,}; {reason}")
    array: npt.NDArray[Any] = np.frombuffer(content, dtype=dtype, offset=begin).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def looks_like_idx(beginning: bytes) -> bool:
    """Returns whether a file that begins with these four bytes or more can be a plain idx file."""
    return (
        len(beginning) >= 4 and beginning[:2] == b"\x00\x00" and beginning[2] in _IDX_TYPES and 1 <= beginning[3] <= 8
    )
