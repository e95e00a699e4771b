"""NumPy's arrays, of which nothing is unpickled: the reader `vectors`, and one file to predict for."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.lab.data.batch import Split
from labelembed.lab.data.checks import few, require_file, sizes
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, NewExamples
from labelembed.lab.data.image_files import Images, decode, decoding
from labelembed.lab.data.splits import PARTS, assigned, fraction_errors
from labelembed.lab.data.table_files import damage_named

_ACCEPTED = "an .npz file (np.savez) with the arrays train_inputs, train_labels, test_inputs, test_labels"
_NEW = "a picture (PNG, JPEG, WebP, GIF, BMP, TIFF) or a .npy array"
# Scales whose ends are fixed by what the values mean. Any other range is what the training data happened to hold, and
# a new example may well go beyond it.
_FIXED_RANGES = ((0.0, 1.0), (0.0, 16.0), (0.0, 255.0))

Array = npt.NDArray[Any]


def read_npz(file: Path) -> dict[str, Array]:
    """Returns the arrays of an npz file by the reader's names: `train_inputs`, `validation_labels`, `names`, ..."""
    require_file(file, _ACCEPTED)
    if not zipfile.is_zipfile(file):
        raise DataError(f"{file}: is no .npz file, or is cut off or damaged; expected {_ACCEPTED}")
    with damage_named(file), file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        stored = {}
        for name in archive.files:
            part, _, kind = name.rpartition("_")
            stored[name if name == "names" else f"{PARTS.get(part or 'train', part)}_{kind}"] = name
        parts = ["train", *(part for part in ("validation", "test") if any(name.startswith(part) for name in stored))]
        wanted = [f"{part}_{kind}" for part in parts for kind in ("inputs", "labels")]
        missing = [name for name in wanted if name not in stored]
        if missing:
            held = f"{few(sorted(archive.files)) or 'none'}{nearest(missing[0], archive.files)}"
            raise DataError(f"{file}: missing the arrays {', '.join(missing)}; it holds {held}; expected {_ACCEPTED}")
        try:
            return {name: np.asarray(archive[stored[name]]) for name in (*wanted, "names") if name in stored}
        except ValueError:
            what = "is damaged, or holds Python objects, which are not unpickled"
            raise DataError(f"{file}: {what}; save texts with .astype(str)") from None


def raw_data(
    source: str,
    arrays: Mapping[str, Array],
    *,
    test_fraction: float | None = None,
    purpose: str = "test",
    to_evaluate: bool = False,
) -> RawData:
    """Returns the data set of arrays named as by `read_npz`; an error names array, row and value.

    `source` is what messages call the data; for the other arguments see `assigned`.
    """
    names = tuple(map(str, arrays["names"].tolist() if "names" in arrays else ()))
    count = len(names)
    splits: dict[str, Split] = {}
    for part in (part for part in ("train", "validation", "test") if f"{part}_inputs" in arrays):
        inputs = torch.from_numpy(_inputs(arrays[f"{part}_inputs"], f"{source}: {part}_inputs"))
        if splits and inputs.dtype != splits["train"].inputs.dtype:
            raise DataError(f"{source}: {part}_inputs: expected numbers of the type that train_inputs have")
        where = f"{source}: {part}_labels"
        labels = _labels(arrays[f"{part}_labels"], where, len(inputs))
        if not (count or to_evaluate):
            count = int(labels.max()) + 1
            # More labels than rows can only be a mistake (an identity for a label) unless names vouch for them.
            if count > max(len(labels), 2):
                what = f"has the label {count - 1} though there are {len(labels):,} rows"
                raise DataError(f"{where}: {what}; number the labels from 0, or save the array `names` too")
        splits[part] = Split(inputs, torch.from_numpy(labels))
    parts, notes = assigned(splits, test_fraction, source=source, to_evaluate=to_evaluate, purpose=purpose)
    return RawData(
        parts=parts,
        names=names or tuple(map(str, range(count))),
        input_range=(0.0, 255.0) if splits["train"].inputs.dtype == torch.uint8 else None,
        source=source,
        notes=tuple(notes),
    )


class ArrayReader:
    """What readers share whose files hold the inputs themselves."""

    def new_encoder(self) -> IdentityEncoder:
        """Returns an encoder that passes the arrays on."""
        return IdentityEncoder()

    def new_examples(self, file: Path, encoder: Encoder) -> NewExamples:
        """Returns the inputs of a picture or a .npy array to predict for; see `read_inputs`."""
        assert isinstance(encoder, IdentityEncoder)  # as `new_encoder` made it
        shape = encoder.input_shape or ()
        return NewExamples(*read_inputs(file, input_shape=shape, input_range=encoder.input_range))


@dataclass(frozen=True, kw_only=True)
class VectorReader(ArrayReader):
    """The arrays of an npz file; nothing in them is unpickled.

    The arrays are ``train_inputs`` and ``train_labels`` (or ``inputs`` and ``labels``) and, if wanted, ``test_``,
    ``validation_`` (``val_``, ``dev_``) and ``names``. Without a test set the validation set takes its place, or else
    `test_fraction` of the examples, stratified and always the same.

    Inputs are uint8 or floating point, of shape [N, F], [N, H, W] or [N, C, H, W]; images without a channel axis get
    one. Labels are the whole numbers 0, 1, ...; without names there are as many as the largest training label says.

    Args:
        path: The file.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
    """

    path: str
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        fraction_errors(self.test_fraction).raise_if_any()

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set; data to evaluate may have labels without names, which are numbered as the run's."""
        file = Path(self.path).expanduser()
        return raw_data(f"arrays in {file}", read_npz(file), test_fraction=self.test_fraction, to_evaluate=to_evaluate)


def _inputs(array: Array, where: str) -> Array:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{where}: expected uint8 or floating point, found {array.dtype}; use .astype(np.float32)")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise DataError(f"{where}: expected [N, F], [N, H, W] or [N, C, H, W], none 0, found {sizes(array.shape)}")
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] == array.shape[2] > 4:
        raise DataError(f"{where}: looks like [N, H, W, C]; for [N, C, H, W] use .transpose(0, 3, 1, 2)")
    array = _as_float32(array, where)
    return array[:, np.newaxis] if array.ndim == 3 else array


def _as_float32(array: Array, where: str) -> Array:
    """Returns bytes as they are, other numbers as float32; raises DataError where one is not finite or too large."""
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is named
            array = array.astype(np.float32)
        for row, value in _first(array, ~np.isfinite(array)):
            raise DataError(f"{where}: row {row} has the value {value}; repair or drop that row")
    return np.ascontiguousarray(array)


def _labels(array: Array, where: str, count: int) -> Array:
    if array.shape != (count,) or array.dtype.kind not in "biuf":
        hint = "for one-hot rows use .argmax(axis=1), put texts into `names`"
        what = f"{sizes(array.shape)} of {array.dtype}"
        raise DataError(f"{where}: expected {count:,} whole numbers, one for each row, found {what}; {hint}")
    for row, value in _first(array, ~((array >= 0) & (array < 2**31) & (array == np.floor(array)))):
        raise DataError(f"{where}: row {row} has the label {value}; expected a whole number from 0 up")
    return array.astype(np.int64)


def _first(values: Array, wrong: Array) -> list[tuple[int, Any]]:
    """Returns row and value of the first of `values` [N, ...] that is wrong; none: all are right."""
    return [(int(place[0]), values[tuple(place)].item()) for place in np.argwhere(wrong)[:1]]


def read_inputs(
    path: Path, *, input_shape: tuple[int, ...], input_range: tuple[float, float]
) -> tuple[Tensor, list[str], list[str]]:
    """Returns inputs [N, *input_shape] of a file to predict for, N names, and notes on values that may mislead.

    A picture is made grey or coloured, stretched to the network's size and scaled to its range, which is that of the
    training inputs. A .npy array must have the right size and range already; it may hold one input or many, with or
    without the channel axis of grey images, or each input as one row of numbers. The content decides
    which of the two a file is. Raises DataError where it is missing, damaged, of an unknown type, or does not fit.
    """
    require_file(path, _NEW)
    with damage_named(path), path.open("rb") as file:
        is_array = file.read(6) == b"\x93NUMPY"
    if not is_array:
        return torch.from_numpy(_picture(path, input_shape, input_range)), [path.name], []
    with damage_named(path):
        array = np.lib.format.open_memmap(path, mode="c")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected an array of numbers, found {array.dtype}")
    shapes = [input_shape, (math.prod(input_shape),)]
    shapes += [input_shape[1:]] if len(input_shape) == 3 and input_shape[0] == 1 else []
    is_one = array.shape in shapes
    if not is_one and (array.shape[1:] not in shapes or not len(array)):
        accepted = " or ".join(dict.fromkeys(f"[{sizes(shape)}]" for shape in shapes))
        raise DataError(f"{path}: expected {accepted}, or many of them, found [{sizes(array.shape)}]")
    inputs = _as_float32(array, str(path)).reshape(-1, *input_shape)
    (low, high), smallest, largest = input_range, inputs.min(), inputs.max()
    what = f"values of {smallest:g} to {largest:g}, while the network was trained on {low:g} to {high:g}"
    is_outside = smallest < low or largest > high
    is_fraction = 0 < largest <= 1 and inputs.dtype.kind == "f"
    if input_range in _FIXED_RANGES[1:] and (is_outside or is_fraction):
        raise DataError(f"{path}: {what}")
    if input_range not in _FIXED_RANGES:
        inputs = inputs.astype(np.float32)
    names = [path.name if is_one else f"{path.name}[{number}]" for number in range(len(inputs))]
    return torch.from_numpy(inputs), names, [what] if is_outside else []


def _picture(path: Path, input_shape: tuple[int, ...], input_range: tuple[float, float]) -> Array:
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or input_range not in _FIXED_RANGES:
        of = f"inputs of shape {input_shape} with values of {input_range[0]:g} to {input_range[1]:g}"
        raise DataError(f"{path}: is no .npy array, and the network takes {of}; save its inputs with numpy.save")
    channels, height, width = input_shape
    try:
        with decoding():
            content = Images([path], path.parent).content(0)
            pixels = decode(content, channels=channels, size=(height, width), fit="stretch")[np.newaxis]
    except DataError as error:
        raise DataError(f"{path}: {error}; expected {_NEW}") from None
    return pixels if input_range[1] == 255 else pixels * np.float32(input_range[1] / 255)
