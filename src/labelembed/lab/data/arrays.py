"""Data whose files hold the inputs themselves: the reader `vectors`, and arrays and images to predict for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.array_files import damage_named, looks_like_idx, read_idx, read_named_arrays, read_npy
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import GZIP_MAGIC, first_invalid, require_file, require_finite, require_names, sizes
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, NewExamples, ReadingProgress
from labelembed.lab.data.image_files import Fit, Images, decode, decoding, read_header
from labelembed.lab.data.splits import assigned, fraction_errors

_NEW = "an image (PNG, JPEG, WebP, GIF, BMP, TIFF), a .npy array or an idx image file (gzip'd or not)"
# Scales whose ends are fixed by what the values mean. Any other range is what the training data happened to hold, and
# a new example may well go beyond it.
_FIXED_RANGES = ((0.0, 1.0), (0.0, 16.0), (0.0, 255.0))

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ArrayReader:
    """What readers share whose files hold the inputs themselves: pictures and vectors."""

    def __post_init__(self) -> None:
        self.errors().raise_if_any()

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        return ArgumentErrors()

    @property
    def fit_of_new(self) -> Fit | None:
        """How new pictures are brought to the size of the training pictures; None where these had it."""
        return None

    def new_encoder(self) -> IdentityEncoder:
        """Returns what learns shape and range of the inputs."""
        return IdentityEncoder()

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns the inputs of an image, a .npy array or an idx file to predict for; see `read_inputs`."""
        assert isinstance(encoder, IdentityEncoder)  # as `new_encoder` made it
        shape, ends = encoder.input_shape or (), encoder.input_range
        return NewExamples(*read_inputs(file, input_shape=shape, input_range=ends, invert=invert, fit=self.fit_of_new))


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
    training label says. The range of the inputs is (0, 255) for uint8; otherwise the encoder learns it.

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
            where = f"{place}: {key}labels"
            labels = _labels(arrays[f"{key}labels"], where, len(inputs))
            if known is None and not to_evaluate:
                known = int(labels.max()) + 1
                # More labels than rows can only be a mistake (an identity for a label) unless names vouch for them.
                if known > max(len(labels), 2):
                    raise DataError(
                        f"{where}: row {labels.argmax()} has the label {known - 1} though there are only "
                        f"{len(labels):,} rows; number the labels from 0, or say by `names` how many there are"
                    )
            if known is not None and labels.max() >= known:
                row = int((labels >= known).argmax())
                why = "the largest training label says" if names is None else f"there are {known} `names`"
                raise DataError(f"{where}: row {row} has the label {labels[row]}; expected 0 to {known - 1}, as {why}")
            splits[part] = Split(torch.from_numpy(inputs), torch.from_numpy(labels))
        train = splits["train"].inputs
        lowest = float(train.min())
        if lowest == float(train.max()) and not 0 <= lowest <= 1:
            raise DataError(f"{place}: every value of the training inputs is {lowest}; there is nothing to learn from")
        source = f"arrays in {place}"
        parts, notes = assigned(splits, self.test_fraction, source=source, to_evaluate=to_evaluate)
        return RawData(
            parts=parts,
            names=names or tuple(map(str, range(known or 0))),
            input_range=(0.0, 255.0) if train.dtype == torch.uint8 else None,
            source=source,
            notes=tuple(notes),
        )


def _inputs(array: Array, where: str) -> Array:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise DataError(f"{where}: expected uint8 or floating point, found {array.dtype}; use .astype(np.float32)")
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise DataError(
            f"{where}: expected [N, F], [N, H, W] or [N, C, H, W], none of them 0, found {sizes(array.shape)}"
        )
    if array.ndim == 4 and array.shape[3] in (1, 3) and array.shape[1] == array.shape[2] > 4:
        raise DataError(
            f"{where}: {sizes(array.shape)} looks like [N, H, W, C]; for [N, C, H, W] use .transpose(0, 3, 1, 2)"
        )
    return _as_float32(array, where)[:, np.newaxis] if array.ndim == 3 else _as_float32(array, where)


def _as_float32(array: Array, where: str) -> Array:
    """Returns bytes as they are, other numbers as float32; raises DataError where one is not finite or too large."""
    if array.dtype == np.uint8:
        return array
    require_finite(array, where)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite and is named
        array = array.astype(np.float32, copy=False)
    require_finite(array, f"{where} as float32")
    return array


def _labels(array: Array, where: str, count: int) -> Array:
    if array.ndim != 1:
        hint = "; for one-hot rows use .argmax(axis=1)" if array.ndim == 2 and array.shape[1:] != (1,) else ""
        raise DataError(f"{where}: expected [N], found {sizes(array.shape)}{hint}")
    if len(array) != count:
        raise DataError(f"{where}: expected {count:,} labels, one for each row of inputs, found {len(array):,}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: expected whole numbers, found {array.dtype}; put texts into `names`")
    invalid = first_invalid(array, lambda chunk: ~((chunk >= 0) & (chunk < 2**31) & (chunk == np.floor(chunk))))
    if invalid is not None:
        raise DataError(f"{where}: row {invalid[0]} has the label {invalid[1]}; expected a whole number from 0 up")
    return array.astype(np.int64)


def _names(array: Array | None, file: Path) -> tuple[str, ...] | None:
    if array is None:
        return None
    if array.ndim != 1 or array.dtype.kind not in "US" or len(array) == 0:
        raise DataError(f"{file}: names: expected [C] of text, found {sizes(array.shape)} {array.dtype}")
    with damage_named(f"{file}: names"):
        texts = [text.decode() if isinstance(text, bytes) else text for text in array.tolist()]
    return require_names(texts, None, f"{file}: names")


def read_inputs(
    path: Path,
    *,
    input_shape: tuple[int, ...],
    input_range: tuple[float, float],
    invert: bool = False,
    fit: Fit | None = None,
) -> tuple[Tensor, list[str], list[str]]:
    """Returns the inputs of one file for a network trained on inputs of `input_shape` and `input_range`.

    The kind of file is seen from its content. An image is made grey or coloured, resized to the network's size and
    scaled to its range. An array or an idx file must have the right size and range already; it may hold one input or
    many, with or without the channel axis of grey images, or each input as one row of numbers. Nothing is unpickled.

    Args:
        path: The file.
        input_shape: (channels, height, width) or (features,).
        input_range: Smallest and largest value of the training inputs.
        invert: Exchange dark and light: ``low + high - value``.
        fit: How the training pictures were brought to their size: `crop`, `stretch` or `pad`. None: they had it,
            and an image of another size is stretched.

    Returns:
        inputs: [N, *input_shape], uint8 or float32, in the units of the training inputs.
        names: N names, ``file.png`` for a file with one input, ``file.npy[3]`` for one of many.
        notes: What was changed and may matter, one line each.

    Raises:
        DataError: The file is missing, damaged, of an unknown type, or its values or shape do not fit.
    """
    require_file(path, _NEW)
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    notes: list[str] = []
    is_array = beginning.startswith(b"\x93NUMPY")
    if is_array or beginning.startswith(GZIP_MAGIC) or looks_like_idx(beginning):
        array = read_npy(path) if is_array else read_idx(path)
        if array.dtype.kind not in "biuf":
            raise DataError(f"{path}: expected an array of numbers, found {array.dtype}")
        if array.dtype.kind != "u" or array.dtype.itemsize > 1:
            array = array.astype(np.uint8 if array.dtype.kind == "b" else np.float64)
        inputs, single = _as_rows(array, input_shape, path)
        _check_values(inputs, input_range, path, notes)
    elif beginning.startswith((b"PK\x03\x04", b"\x80")):
        raise DataError(f"{path}: is an .npz, a zip or a pickle; expected {_NEW}")
    else:
        inputs, single = _read_image(path, input_shape, input_range, fit or "stretch", notes)[np.newaxis], True
    if input_range not in _FIXED_RANGES and inputs.dtype == np.uint8:
        inputs = inputs.astype(np.float32)
    inputs = _as_float32(inputs, str(path))
    if invert:
        inputs = inputs.dtype.type(input_range[0] + input_range[1]) - inputs
        notes.append("dark and light exchanged")
    names = [path.name] if single else [f"{path.name}[{row}]" for row in range(len(inputs))]
    return torch.from_numpy(np.ascontiguousarray(inputs)), names, notes


def _as_rows(array: Array, input_shape: tuple[int, ...], path: Path) -> tuple[Array, bool]:
    """Returns the array as [N, *input_shape] and whether it was a single input."""
    shapes = [input_shape]
    shapes += [input_shape[1:]] if len(input_shape) == 3 and input_shape[0] == 1 else []
    shapes += [(math.prod(input_shape),)] if len(input_shape) > 1 else []
    if array.shape in shapes:
        return array.reshape(1, *input_shape), True
    if array.shape[1:] in shapes and len(array):
        return array.reshape(len(array), *input_shape), False
    accepted = " or ".join(f"[{sizes(shape)}]" for shape in shapes)
    raise DataError(
        f"{path}: expected one input of {accepted} or many of them, [N x ...], found [{sizes(array.shape)}]"
    )


def _check_values(inputs: Array, input_range: tuple[float, float], path: Path, notes: list[str]) -> None:
    low, high = input_range
    require_finite(inputs, str(path))
    scale = f"the network was trained on values of {low:g} to {high:g}"
    largest = inputs.max()
    if input_range in _FIXED_RANGES and high > 1 and 0 < largest <= 1:
        if inputs.dtype.kind == "f":
            raise DataError(f"{path}: the largest value is {largest:g}, but {scale}; multiply by {high:g}")
        notes.append(f"no value is larger than {largest}, while {scale}")
    invalid = first_invalid(inputs, lambda chunk: (chunk < low) | (chunk > high))
    if invalid is None:
        return
    # vectors whose training values happened to lie within [0, 1] may have others elsewhere
    if input_range in _FIXED_RANGES and not (inputs.ndim == 2 and high == 1):
        raise DataError(f"{path}: row {invalid[0]} has the value {invalid[1]:g}; {scale}")
    notes.append(f"row {invalid[0]} has the value {invalid[1]:g}, while {scale}")


def _read_image(
    path: Path, input_shape: tuple[int, ...], input_range: tuple[float, float], fit: Fit, notes: list[str]
) -> Array:
    """Returns an image [channels, height, width] in the network's range, and notes what was done to it."""
    size = (input_shape[1], input_shape[2]) if len(input_shape) == 3 else (0, 0)
    try:
        if not all(size) or input_shape[0] not in (1, 3) or input_range not in _FIXED_RANGES:
            of = f"inputs of shape {input_shape} with values of {input_range[0]:g} to {input_range[1]:g}"
            raise DataError(f"is an image, but the network takes {of}; give a .npy array of such")
        content = Images([path], path.parent).content(0)
        with decoding():
            (height, width), _ = read_header(content)
            pixels = decode(content, channels=input_shape[0], size=size, fit=fit)
    except DataError as error:
        raise DataError(f"{path}: {error}" + (f"; expected {_NEW}" if "no picture" in str(error) else "")) from None
    if (height, width) != size:
        change = "" if height * size[1] == width * size[0] else f" ({fit}, for its proportions are others)"
        notes.append(f"resized from {width}x{height} to {size[1]}x{size[0]}{change}")
    if input_range == (0.0, 255.0):
        return pixels
    scaled: Array = pixels.astype(np.float32) * np.float32(input_range[1] / 255)
    return scaled
