"""Finding named arrays: in one npz file, or as npy files in a folder."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import few, require_file
from labelembed.lab.data.splits import PARTS

SPLIT = ("train_inputs", "train_labels", "test_inputs", "test_labels")
#: The same without a test set; the reader cuts one off.
WHOLE = ("inputs", "labels")
#: Those of a validation set.
VALIDATION = ("validation_inputs", "validation_labels")
_VALIDATION_NAMES = [(f"{name}_inputs", f"{name}_labels") for name, part in PARTS.items() if part == "validation"]
_KNOWN = {*SPLIT, *WHOLE, "names"}.union(*_VALIDATION_NAMES)
ACCEPTED = (
    "an .npz file (np.savez) with the arrays "
    + ", ".join(SPLIT)
    + " and, if wanted, validation_inputs, validation_labels and names, or a folder of such .npy files"
)

Array = npt.NDArray[Any]


def read_named_arrays(place: Path) -> dict[str, Array]:
    """Returns the arrays of an npz file or of a folder of npy files: those of `SPLIT` or of `WHOLE`, and `names`.

    Those of a validation set that is there, however it is called, are `validation_inputs` and `validation_labels`; the
    test set may be missing then. In a folder the names may be a text file, ``names.txt``, with a name a line.

    Raises:
        DataError: The place or an array is missing, or a file is damaged; nothing is unpickled.
    """
    return _of_folder(place) if place.is_dir() else _of_archive(place)


def holds_arrays(folder: Path) -> bool:
    """Returns whether a folder holds any npy file."""
    try:
        return any(entry.suffix == ".npy" for entry in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None


def read_npy(place: Path) -> Array:
    """Returns the array of an npy file, mapped: what is looked at is read then, and changes stay in memory.

    Raises:
        DataError: The file is no npy array, cut off, or holds something else than numbers or text.
    """
    with _refusals(place):
        return _usable(np.load(place, mmap_mode="c", allow_pickle=False), str(place))


def _of_archive(file: Path) -> dict[str, Array]:
    require_file(file, ACCEPTED)
    with _refusals(file):
        if not zipfile.is_zipfile(file):
            raise DataError(f"{file}: expected {ACCEPTED}; it is no zip archive or damaged")
        arrays = {}
        # np.load leaves a file that it cannot read open, where it has opened it
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            for name, called in _wanted(set(archive.files), file).items():
                where = f"{file}: {called}"
                with _refusals(where):
                    arrays[name] = _usable(archive[called], where)
        return arrays


def _of_folder(folder: Path) -> dict[str, Array]:
    with _refusals(folder):
        found = {entry.stem: entry for entry in folder.iterdir() if entry.suffix == ".npy"}
        if not found:
            raise DataError(f"{folder}: is a folder; expected {ACCEPTED}")
        arrays = {name: read_npy(found[called]) for name, called in _wanted(set(found), folder).items()}
        text = folder / "names.txt"
        if "names" not in arrays and text.is_file():
            try:
                arrays["names"] = np.array(text.read_text(encoding="utf-8-sig").splitlines(), dtype=np.str_)
            except UnicodeDecodeError as error:
                raise DataError(f"{text}: expected UTF-8 ({error})") from None
        return arrays


def _usable(array: Any, where: str) -> Array:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{where}: no npy array, cut off or damaged")
    if array.dtype.kind not in "biufSU" or array.dtype.itemsize == 0:
        raise DataError(f"{where}: expected numbers, found {array.dtype}")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


@contextmanager
def _refusals(where: Path | str) -> Iterator[None]:
    """Turns what NumPy and zipfile raise, each damage a type of its own, into DataError."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        if "allow_pickle" in reason or "Python objects" in reason:
            reason = "holds Python objects (pickle), which are never loaded; save it as an array of numbers"
            raise DataError(f"{where}: {reason}") from None
        raise DataError(f"{where}: no npy array, cut off or damaged ({reason})") from None


def _wanted(there: set[str], place: Path) -> dict[str, str]:
    """Returns which of the arrays that are there to read, by what the reader calls them."""
    required = WHOLE if there.issuperset(WHOLE) and not there.intersection(SPLIT) else SPLIT
    validation = [pair for pair in _VALIDATION_NAMES if there.intersection(pair)]
    if len(validation) > 1:
        raise DataError(f"{place}: both {validation[0][0]} and {validation[1][0]} can be the validation set; keep one")
    if validation and required == SPLIT and not there.intersection(SPLIT[2:]):
        required = SPLIT[:2]
    wanted = {name: name for name in required}
    for pair in validation:
        wanted |= dict(zip(VALIDATION, pair, strict=True))
    missing = [name for name in wanted.values() if name not in there]
    if missing:
        found = few(sorted(there)) or "none"
        hints = nearest(missing[0], there - set(_KNOWN))
        raise DataError(f"{place}: missing the arrays {', '.join(missing)}{hints}; it holds {found}")
    return wanted | ({"names": "names"} if "names" in there else {})
