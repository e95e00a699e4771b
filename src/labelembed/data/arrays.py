"""Data sets as NumPy arrays in one npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.batch import Split
from labelembed.data.checks import first_fault, printable, require_finite, require_names
from labelembed.data.dataset import RawData
from labelembed.data.streams import DEFLATE_RATIO, read_npy, require_file, sizes
from labelembed.errors import DataError, nearest

_REQUIRED = ("train_inputs", "train_labels", "test_inputs", "test_labels")
_KNOWN = (*_REQUIRED, "names")
_ACCEPTED = "an .npz file (np.savez) with the arrays " + ", ".join(_REQUIRED) + " and, if wanted, names"

Array = npt.NDArray[Any]


def read_arrays(*, path: str) -> RawData:
    """Returns the data set of an npz file; nothing in it is unpickled.

    The file holds ``train_inputs``, ``train_labels``, ``test_inputs``, ``test_labels`` and, if wanted, ``names``.
    Inputs are uint8 or floating point, of shape [N, F], [N, H, W] or [N, C, H, W]; images without a channel
    axis get one. Labels are the whole numbers 0, 1, ...; without names there are as many labels as the largest
    training label says.

    The range of the inputs is (0, 255) for uint8, (0, 1) for floating point that keeps within it, and
    otherwise the smallest and the largest value found.

    Args:
        path: The file.

    Raises:
        DataError: The file is missing, damaged or incomplete, or a row cannot be used.
    """
    file = Path(path).expanduser()
    arrays = _load(file)
    train_inputs, test_inputs = (_inputs(arrays[name], name, file) for name in ("train_inputs", "test_inputs"))
    if train_inputs.shape[1:] != test_inputs.shape[1:] or train_inputs.dtype != test_inputs.dtype:
        raise DataError(
            f"{file}: test_inputs: expected rows of {sizes(train_inputs.shape[1:])} {train_inputs.dtype} as in "
            f"train_inputs, found {sizes(test_inputs.shape[1:])} {test_inputs.dtype}"
        )
    names = _names(arrays.get("names"), file)
    train_labels = _labels(arrays["train_labels"], "train_labels", len(train_inputs), file)
    test_labels = _labels(arrays["test_labels"], "test_labels", len(test_inputs), file)
    if names is None:
        names = _numbers_as_names(train_labels, file)
    for name, labels in (("train_labels", train_labels), ("test_labels", test_labels)):
        count = len(names)
        fault = first_fault(labels, lambda chunk, count=count: chunk >= count)  # type: ignore[misc]
        if fault is not None:
            why = f"there are {count} `names`" if "names" in arrays else "the largest training label says"
            raise DataError(
                f"{file}: {name}: row {fault[0]} has the label {fault[1]}; expected 0 to {count - 1}, as {why}"
            )
    return RawData(
        train=Split(torch.from_numpy(train_inputs), torch.from_numpy(train_labels)),
        test=Split(torch.from_numpy(test_inputs), torch.from_numpy(test_labels)),
        names=names,
        input_range=_range(train_inputs, test_inputs, file),
        source=f"arrays in {file}",
    )


def _load(file: Path) -> dict[str, Array]:
    """Returns the known arrays of the file, each read only after its announced size was compared."""
    require_file(file, _ACCEPTED)
    try:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in _REQUIRED if name not in members]
            if missing:
                found = ", ".join(printable(name) for name in sorted(members)[:8]) or "none"
                hints = nearest(missing[0], set(members) - set(_KNOWN))
                raise DataError(f"{file}: missing the arrays {', '.join(missing)}{hints}; it holds {found}")
            arrays = {}
            for name in _KNOWN:
                info = members.get(name)
                if info is None:
                    continue
                # what the archive says of a member is as little to be trusted as what the member says of itself
                length = min(info.file_size, (info.compress_size + 64) * DEFLATE_RATIO)
                with archive.open(info) as stream:
                    arrays[name] = read_npy(cast(BinaryIO, stream), length=length, where=f"{file}: {name}")
            return arrays
    except DataError:
        raise
    except zipfile.BadZipFile as error:
        raise DataError(f"{file}: expected {_ACCEPTED}; it is no zip archive or damaged ({error})") from None
    except Exception as error:  # encrypted, unknown compression, damaged stream: each raises a type of its own
        raise DataError(f"{file}: cannot be read ({type(error).__name__}: {error})") from None


def _inputs(array: Array, name: str, file: Path) -> Array:
    where = f"{file}: {name}"
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(
            f"{where}: expected uint8 or floating point, found {array.dtype}; convert with .astype(np.float32)"
        )
    if array.ndim not in (2, 3, 4):
        raise DataError(f"{where}: expected [N, F], [N, H, W] or [N, C, H, W], found {sizes(array.shape)}")
    if array.size == 0:
        raise DataError(f"{where}: expected at least one row and one value, found {sizes(array.shape)}")
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] == array.shape[2] > 4:
        raise DataError(
            f"{where}: {sizes(array.shape)} looks like [N, H, W, C]; "
            "expected [N, C, H, W], so use .transpose(0, 3, 1, 2)"
        )
    require_finite(array, where)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is named below
            converted = array.astype(np.float32)
        if array.dtype.itemsize > 4:
            fault = first_fault(converted, lambda chunk: ~np.isfinite(chunk))
            if fault is not None:
                raise DataError(f"{where}: row {fault[0]} has a value too large for float32; scale the inputs")
        array = converted
    return array[:, np.newaxis] if array.ndim == 3 else array


def _labels(array: Array, name: str, rows: int, file: Path) -> Array:
    where = f"{file}: {name}"
    if array.ndim != 1:
        hint = "; for one-hot rows use .argmax(axis=1)" if array.ndim == 2 and array.shape[1:] != (1,) else ""
        raise DataError(f"{where}: expected [N], found {sizes(array.shape)}{hint}")
    if len(array) != rows:
        raise DataError(f"{where}: expected {rows:,} labels, one for each row of inputs, found {len(array):,}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected whole numbers, found {array.dtype}; put texts into `names`")
    if array.dtype.kind == "f":
        fault = first_fault(array, lambda chunk: ~np.isfinite(chunk) | (chunk != np.floor(chunk)))
        if fault is not None:
            raise DataError(f"{where}: row {fault[0]} has the label {fault[1]}; expected a whole number")
    fault = first_fault(array, lambda chunk: (chunk < 0) | (chunk >= 2**31))
    if fault is not None:
        raise DataError(f"{where}: row {fault[0]} has the label {fault[1]}; expected 0 or more, below 2**31")
    return array.astype(np.int64)


def _names(array: Array | None, file: Path) -> tuple[str, ...] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in "US" or len(array) == 0:
        raise DataError(f"{file}: names: expected [C] of text, found {sizes(array.shape)} {array.dtype}")
    try:
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: names: expected UTF-8 ({error})") from None
    return require_names(texts, None, f"{file}: names")


def _numbers_as_names(train_labels: Array, file: Path) -> tuple[str, ...]:
    largest = int(train_labels.max())
    # More labels than rows can only be a mistake (an identity for a label) unless names vouch for them.
    if largest >= max(len(train_labels), 2):
        row = int(train_labels.argmax())
        raise DataError(
            f"{file}: train_labels: row {row} has the label {largest} though there are only "
            f"{len(train_labels):,} rows; number the labels from 0, or say by `names` how many there are"
        )
    return tuple(str(label) for label in range(largest + 1))


def _range(train_inputs: Array, test_inputs: Array, file: Path) -> tuple[float, float]:
    if train_inputs.dtype == np.uint8:
        return 0.0, 255.0
    lowest = min(float(train_inputs.min()), float(test_inputs.min()))
    highest = max(float(train_inputs.max()), float(test_inputs.max()))
    if lowest >= 0 and highest <= 1:
        return 0.0, 1.0
    if lowest == highest:
        raise DataError(f"{file}: every value of the inputs is {lowest}; there is nothing to learn from")
    return lowest, highest
