"""Finding named arrays: in one npz file, or as npy files in a folder."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from labelembed.data.checks import printable
from labelembed.data.splits import PARTS
from labelembed.data.streams import DEFLATE_RATIO, MAXIMUM_BYTES, most_unpacked, read_npy, require_file
from labelembed.errors import DataError, nearest

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
    test set may be missing then.

    In a folder the names may be a text file, ``names.txt``, with a name a line.

    Raises:
        DataError: The place or an array is missing, or a file is damaged; each is read only after its announced
            size was compared with its length, and nothing is unpickled.
    """
    return _of_folder(place) if place.is_dir() else _of_archive(place)


def holds_arrays(folder: Path) -> bool:
    """Returns whether a folder holds any npy file."""
    try:
        return any(entry.suffix == ".npy" for entry in folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None


def _of_archive(file: Path) -> dict[str, Array]:
    require_file(file, ACCEPTED)
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            arrays = {}
            for name, called in _wanted(set(members), file).items():
                info = members[called]
                # what the archive says of a member is as little to be trusted as what the member says of itself
                length = min(info.file_size, (info.compress_size + 64) * DEFLATE_RATIO)
                if info.file_size > most_unpacked(info.compress_size):
                    raise DataError(
                        f"{file}: {called}: {info.compress_size:,} bytes would unpack to {info.file_size:,}, more than "
                        "any data do; save it with np.savez if they are right"
                    )
                with archive.open(info) as stream:
                    arrays[name] = read_npy(cast(BinaryIO, stream), length=length, where=f"{file}: {called}")
            return arrays
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{file}: expected {ACCEPTED}; it is no zip archive or damaged ({error})") from None
    except Exception as error:  # encrypted, unknown compression, damaged stream: each raises a type of its own
        raise DataError(f"{file}: cannot be read ({type(error).__name__}: {error})") from None


def _of_folder(folder: Path) -> dict[str, Array]:
    try:
        found = {entry.stem: entry for entry in folder.iterdir() if entry.suffix == ".npy"}
        if not found:
            raise DataError(f"{folder}: is a folder; expected {ACCEPTED}")
        text = folder / "names.txt"
        arrays = {}
        for name, called in _wanted(set(found), folder).items():
            with found[called].open("rb") as stream:
                length = os.fstat(stream.fileno()).st_size
                arrays[name] = read_npy(stream, length=length, where=str(found[called]))
        if "names" not in arrays and text.is_file():
            arrays["names"] = np.array(_lines(text), dtype=np.str_)
        return arrays
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from None


def _lines(file: Path) -> list[str]:
    if file.stat().st_size > MAXIMUM_BYTES // 2**10:
        raise DataError(f"{file}: is larger than {MAXIMUM_BYTES // 2**10:,} bytes, which no list of names is")
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected UTF-8 ({error})") from None


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
        found = ", ".join(printable(name) for name in sorted(there)[:8]) or "none"
        hints = nearest(missing[0], there - set(_KNOWN))
        raise DataError(f"{place}: missing the arrays {', '.join(missing)}{hints}; it holds {found}")
    return wanted | ({"names": "names"} if "names" in there else {})
