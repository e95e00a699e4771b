"""Data sets as NumPy arrays, in one npz file or a folder of npy files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import first_invalid, require_finite, require_names, sizes
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.files.arrays import holds_arrays, read_named_arrays
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.arrays import ArrayReader
from labelembed.lab.data.splits import assigned, fraction_errors

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class VectorReader(ArrayReader):
    """The arrays of an npz file or of a folder of npy files; nothing in them is unpickled.

    The arrays are ``train_inputs``, ``train_labels``, ``test_inputs``, ``test_labels`` and, if wanted, ``names``;
    in a folder ``train_inputs.npy`` and so on, and the names may be ``names.txt`` with a name a line. Instead of
    the four there may be ``inputs`` and ``labels``, of which `test_fraction` becomes the test set, at random,
    stratified by label, and always the same. ``validation_inputs`` and ``validation_labels`` (``val_``, ``valid_``,
    ``dev_``) are the validation set if they are there, and the test set where there is no other.

    Inputs are uint8 or floating point, of shape [N, F], [N, H, W] or [N, C, H, W]; images without a channel
    axis get one. Labels are the whole numbers 0, 1, ...; without names there are as many labels as the largest
    training label says.

    The range of the inputs is (0, 255) for uint8, (0, 1) for floating point whose training examples keep within it,
    and otherwise the smallest and the largest value of the training examples. Values of other examples may lie outside;
    they are not clipped, which is also what scikit-learn's MinMaxScaler does.

    Args:
        path: The file or the folder.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.

    Raises:
        ValueError: `test_fraction` is not between 0 and 1.
    """

    path: str
    test_fraction: float | None = None

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        return fraction_errors(self.test_fraction)

    @classmethod
    def finds(cls, place: Place) -> Found | None:
        """Returns what there is in an npz file or a folder of npy files.

        Raises:
            DataError: As `read`.
        """
        path = place.path
        if not (path.suffix.lower() == ".npz" if path.is_file() else holds_arrays(path)):
            return None
        raw = cls(path=str(path)).read(to_evaluate=True)
        shape = tuple(raw.train.inputs.shape[1:])
        kind = f"pictures of {sizes(shape[1:])}" if len(shape) == 3 else f"vectors of {shape[0]:,} numbers"
        names = raw.names or tuple(map(str, np.unique(raw.train.labels.numpy())))
        return Found(
            f"{sum(map(len, raw.parts.values())):,} {kind}, {len(names):,} classes", len(raw.train), names, shape
        )

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; data to evaluate may have labels without names, which are numbered as the run's."""
        place = Path(self.path).expanduser()
        arrays = read_named_arrays(place)
        names = _names(arrays.get("names"), place)
        known = None if names is None else len(names)
        keys = {"train": "" if "inputs" in arrays else "train_", "validation": "validation_", "test": "test_"}
        splits: dict[str, Examples] = {}
        for part, key in keys.items():
            if f"{key}inputs" not in arrays:
                continue
            inputs = _inputs(arrays[f"{key}inputs"], f"{place}: {key}inputs")
            first = splits["train"].inputs.numpy() if splits else inputs
            if inputs.shape[1:] != first.shape[1:] or inputs.dtype != first.dtype:
                raise DataError(
                    f"{place}: {key}inputs: expected rows of {sizes(first.shape[1:])} {first.dtype} as in "
                    f"{keys['train']}inputs, found {sizes(inputs.shape[1:])} {inputs.dtype}"
                )
            labels = _labels(arrays[f"{key}labels"], f"{place}: {key}labels", len(inputs))
            if known is None and not to_evaluate:
                known = _number_of_labels(labels, f"{place}: {key}labels")
            if known is not None and labels.max() >= known:
                row = int((labels >= known).argmax())
                why = "the largest training label says" if names is None else f"there are {known} `names`"
                where = f"{place}: {key}labels: row {row}"
                raise DataError(f"{where} has the label {labels[row]}; expected 0 to {known - 1}, as {why}")
            splits[part] = Split(torch.from_numpy(inputs), torch.from_numpy(labels))
        source = f"arrays in {place}"
        parts, notes = assigned(splits, self.test_fraction, source=source, to_evaluate=to_evaluate)
        return RawData(
            parts=parts,
            names=names or tuple(map(str, range(known or 0))),
            input_range=_known_range(splits["train"].inputs.numpy(), place),
            source=source,
            notes=tuple(notes),
        )


def _inputs(array: Array, where: str) -> Array:
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
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is named
            array = array.astype(np.float32, copy=False)
        invalid = first_invalid(array, lambda chunk: ~np.isfinite(chunk))
        if invalid is not None:
            raise DataError(f"{where}: row {invalid[0]} has a value too large for float32; scale the inputs")
    return array[:, np.newaxis] if array.ndim == 3 else array


def _labels(array: Array, where: str, count: int) -> Array:
    if array.ndim != 1:
        hint = "; for one-hot rows use .argmax(axis=1)" if array.ndim == 2 and array.shape[1:] != (1,) else ""
        raise DataError(f"{where}: expected [N], found {sizes(array.shape)}{hint}")
    if len(array) != count:
        raise DataError(f"{where}: expected {count:,} labels, one for each row of inputs, found {len(array):,}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected whole numbers, found {array.dtype}; put texts into `names`")
    if array.dtype.kind == "f":
        invalid = first_invalid(array, lambda chunk: ~np.isfinite(chunk) | (chunk != np.floor(chunk)))
        if invalid is not None:
            raise DataError(f"{where}: row {invalid[0]} has the label {invalid[1]}; expected a whole number")
    invalid = first_invalid(array, lambda chunk: (chunk < 0) | (chunk >= 2**31))
    if invalid is not None:
        raise DataError(f"{where}: row {invalid[0]} has the label {invalid[1]}; expected 0 or more, below 2**31")
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


def _number_of_labels(train_labels: Array, where: str) -> int:
    largest = int(train_labels.max())
    # More labels than rows can only be a mistake (an identity for a label) unless names vouch for them.
    if largest >= max(len(train_labels), 2):
        row = int(train_labels.argmax())
        raise DataError(
            f"{where}: row {row} has the label {largest} though there are only "
            f"{len(train_labels):,} rows; number the labels from 0, or say by `names` how many there are"
        )
    return largest + 1


def _known_range(train_inputs: Array, file: Path) -> tuple[float, float] | None:
    """Returns the range of bytes; of floating point it is that of the examples that are trained on, see `prepare`."""
    if train_inputs.dtype == np.uint8:
        return 0.0, 255.0
    lowest = float(train_inputs.min())
    if lowest == float(train_inputs.max()) and not 0 <= lowest <= 1:
        raise DataError(f"{file}: every value of the training inputs is {lowest}; there is nothing to learn from")
    return None
