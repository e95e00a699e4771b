"""Arrays: NumPy's npy and npz files, of which nothing is unpickled, and idx files; the reader `vectors`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import DataError, nearest
from labelembed.lab.data.batch import Split
from labelembed.lab.data.checks import (
    content_of,
    few,
    first_invalid,
    require_file,
    require_finite,
    sizes,
)
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import Encoder, IdentityEncoder, NewExamples, ReadingProgress
from labelembed.lab.data.image_files import Images, decode, decoding, opened
from labelembed.lab.data.splits import PARTS, assigned, fraction_errors
from labelembed.lab.data.table_files import damage_named

_ACCEPTED = "an .npz file (np.savez) with the arrays train_inputs, train_labels, ... or a folder of such .npy files"
_NEW = "an image (PNG, JPEG, WebP, GIF, BMP, TIFF), a .npy array or an idx image file (gzip'd or not)"
# Scales whose ends are fixed by what the values mean. Any other range is what the training data happened to hold, and
# a new example may well go beyond it.
_FIXED_RANGES = ((0.0, 1.0), (0.0, 16.0), (0.0, 255.0))

Array = npt.NDArray[Any]


# ---- files


def read_named_arrays(place: Path) -> dict[str, Array]:
    """Returns the arrays of an npz file or of a folder of npy files: `train_inputs`, `test_labels`, `names`, ..."""
    if place.is_dir():
        files = {entry.stem: entry for entry in place.iterdir() if entry.suffix == ".npy"}
        return {name: read_npy(files[stored]) for name, stored in _stored_names(files, place).items()}
    require_file(place, _ACCEPTED)
    with damage_named(place), place.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: np.asarray(archive[stored]) for name, stored in _stored_names(archive.files, place).items()}


def _stored_names(there: Collection[str], place: Path) -> dict[str, str]:
    """Returns what the arrays to read are called, by what the reader calls them: `validation_inputs`: `dev_inputs`."""
    names = {"names": "names"} if "names" in there else {}
    wanted = {"train_inputs", "train_labels"}
    for stored in sorted(there):
        word, _, kind = stored.rpartition("_")
        if kind in ("inputs", "labels") and (word in PARTS or not word):
            part = PARTS.get(word, "train")
            if names.setdefault(f"{part}_{kind}", stored) != stored:
                raise DataError(f"{place}: both {names[f'{part}_{kind}']} and {stored} can be {part}_{kind}; keep one")
            wanted |= {f"{part}_inputs", f"{part}_labels"}
    missing = sorted(wanted - names.keys())
    if missing:
        hint, held = nearest(missing[0], set(there) - wanted), few(sorted(there)) or "none"
        raise DataError(
            f"{place}: missing the arrays {', '.join(missing)}{hint}; it holds {held}; expected {_ACCEPTED}"
        )
    return names


def read_npy(file: Path) -> Array:
    """Returns the array of an npy file, mapped; changes stay in memory. Raises DataError where it cannot be read."""
    with damage_named(file):
        return np.lib.format.open_memmap(file, mode="c")


def read_idx(path: Path) -> Array:
    """Returns the array of an idx file of bytes, plain or gzip'd. Raises DataError where it is none, or damaged."""
    require_file(path, "an idx file")
    content = content_of(path)
    if not _looks_like_idx(content):
        raise DataError(f"{path}: is no idx file of bytes; it begins with {content[:4].hex(' ') or 'nothing'}")
    begin = 4 + 4 * content[3]
    with damage_named(path):
        shape = np.frombuffer(content[4:begin], dtype=">u4").tolist()
        return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape).copy()


def _looks_like_idx(beginning: bytes) -> bool:
    return beginning[:3] == b"\x00\x00\x08" and 1 <= int.from_bytes(beginning[3:4]) <= 8


# ---- readers


def raw_data(
    source: str,
    arrays: Mapping[str, Array],
    *,
    test_fraction: float | None = None,
    purpose: str = "test",
    byte_range: tuple[float, float] = (0.0, 255.0),
    to_evaluate: bool = False,
) -> RawData:
    """Returns the data set of arrays named as by `read_named_arrays`; what is wrong names array, row and value.

    `source` is what messages call the data, `byte_range` holds the smallest and largest value of inputs of bytes (the
    encoder learns that of others); for the other arguments see `assigned`.
    """
    names = _names(arrays["names"], f"{source}: names") if "names" in arrays else ()
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
                found = f"has the label {count - 1} though there are {len(labels):,} rows"
                raise DataError(f"{where}: {found}; number the labels from 0, or save the array `names` too")
        splits[part] = Split(inputs, torch.from_numpy(labels))
    parts, notes = assigned(splits, test_fraction, source=source, to_evaluate=to_evaluate, purpose=purpose)
    return RawData(
        parts=parts,
        names=names or tuple(map(str, range(count))),
        input_range=byte_range if splits["train"].inputs.dtype == torch.uint8 else None,
        source=source,
        notes=tuple(notes),
    )


class ArrayReader:
    """What readers share whose files hold the inputs themselves."""

    def new_encoder(self) -> IdentityEncoder:
        """Returns what learns shape and range of the inputs."""
        return IdentityEncoder()

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns the inputs of an image, a .npy array or an idx file to predict for; see `read_inputs`."""
        assert isinstance(encoder, IdentityEncoder)  # as `new_encoder` made it
        shape = encoder.input_shape or ()
        return NewExamples(*read_inputs(file, input_shape=shape, input_range=encoder.input_range, invert=invert))


@dataclass(frozen=True, kw_only=True)
class VectorReader(ArrayReader):
    """The arrays of an npz file or of a folder of npy files; nothing in them is unpickled.

    The arrays are ``train_inputs`` and ``train_labels`` (or ``inputs`` and ``labels``) and, if wanted, ``test_``,
    ``validation_`` (``val_``, ``dev_``) and ``names``; in a folder ``train_inputs.npy`` and so on. Without a test set
    the validation set takes its place, or else `test_fraction` of the examples, stratified and always the same.

    Inputs are uint8 or floating point, of shape [N, F], [N, H, W] or [N, C, H, W]; images without a channel axis get
    one. Labels are the whole numbers 0, 1, ...; without names there are as many as the largest training label says.

    Args:
        path: The file or the folder.
        test_fraction: Share of the examples that becomes the test set where there is none; null: 0.2.
    """

    path: str
    test_fraction: float | None = None

    def __post_init__(self) -> None:
        fraction_errors(self.test_fraction).raise_if_any()

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; data to evaluate may have labels without names, which are numbered as the run's."""
        place = Path(self.path).expanduser()
        arrays = read_named_arrays(place)
        return raw_data(f"arrays in {place}", arrays, test_fraction=self.test_fraction, to_evaluate=to_evaluate)


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
        require_finite(array, where)
    return np.ascontiguousarray(array)


def _labels(array: Array, where: str, count: int) -> Array:
    if array.shape != (count,) or array.dtype.kind not in "biuf":
        hint = "for one-hot rows use .argmax(axis=1), put texts into `names`"
        found = f"{sizes(array.shape)} of {array.dtype}"
        raise DataError(f"{where}: expected {count:,} whole numbers, one for each row, found {found}; {hint}")
    invalid = first_invalid(array, lambda chunk: ~((chunk >= 0) & (chunk < 2**31) & (chunk == np.floor(chunk))))
    if invalid is not None:
        raise DataError(f"{where}: row {invalid[0]} has the label {invalid[1]}; expected a whole number from 0 up")
    return array.astype(np.int64)


def _names(array: Array, where: str) -> tuple[str, ...]:
    if array.ndim != 1 or array.dtype.kind != "U" or len(array) == 0:
        raise DataError(f"{where}: expected [C] of text, found {sizes(array.shape)} {array.dtype}")
    return tuple(array.tolist())


# ---- one file to predict for


def read_inputs(
    path: Path, *, input_shape: tuple[int, ...], input_range: tuple[float, float], invert: bool = False
) -> tuple[Tensor, list[str], list[str]]:
    """Returns inputs [N, *input_shape] of a file, N names, and what was changed and may matter, one line each.

    The kind of file is seen from its content. An image is made grey or coloured, stretched to the network's size and
    scaled to its range. An array or an idx file must have the right size and range already; it may hold one input or
    many, with or without the channel axis of grey images, or each input as one row of numbers.

    Args:
        path: The file.
        input_shape: (channels, height, width) or (features,).
        input_range: Smallest and largest value of the training inputs.
        invert: Exchange dark and light: ``low + high - value``.

    Raises:
        DataError: The file is missing, damaged, of an unknown type, or its values or shape do not fit.
    """
    require_file(path, _NEW)
    with damage_named(path), path.open("rb") as file:
        beginning = file.read(8)
    is_npy, is_one = beginning.startswith(b"\x93NUMPY"), True
    if is_npy or beginning.startswith(b"\x1f\x8b") or _looks_like_idx(beginning):
        inputs, is_one = _as_rows(read_npy(path) if is_npy else read_idx(path), input_shape, path)
        notes = _range_notes(inputs, input_range, path)
    else:
        inputs, notes = _read_image(path, input_shape, input_range)
    if input_range not in _FIXED_RANGES:
        inputs = inputs.astype(np.float32)
    if invert:
        inputs = inputs.dtype.type(sum(input_range)) - inputs
        notes.append("dark and light exchanged")
    names = [path.name] if is_one else [f"{path.name}[{row}]" for row in range(len(inputs))]
    return torch.from_numpy(np.ascontiguousarray(inputs)), names, notes


def _as_rows(array: Array, input_shape: tuple[int, ...], path: Path) -> tuple[Array, bool]:
    """Returns the array as [N, *input_shape], uint8 or float32, and whether it was a single input."""
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected an array of numbers, found {array.dtype}")
    shapes = [input_shape, (math.prod(input_shape),)]
    shapes += [input_shape[1:]] if len(input_shape) == 3 and input_shape[0] == 1 else []
    is_one = array.shape in shapes
    if not is_one and (array.shape[1:] not in shapes or not len(array)):
        accepted = " or ".join(dict.fromkeys(f"[{sizes(shape)}]" for shape in shapes))
        raise DataError(f"{path}: expected {accepted}, or many of them, found [{sizes(array.shape)}]")
    array = array.astype(np.uint8) if array.dtype.kind == "b" else array
    return _as_float32(array, str(path)).reshape(-1, *input_shape), is_one


def _range_notes(inputs: Array, input_range: tuple[float, float], path: Path) -> list[str]:
    """Returns what to say of values that no training input had; raises DataError where they are of another scale."""
    (low, high), smallest, largest = input_range, inputs.min(), inputs.max()
    found = f"values of {smallest:g} to {largest:g}, while the network was trained on {low:g} to {high:g}"
    is_outside = smallest < low or largest > high
    is_fraction = 0 < largest <= 1 and inputs.dtype.kind == "f"
    if input_range in _FIXED_RANGES[1:] and (is_outside or is_fraction):
        raise DataError(f"{path}: {found}")
    return [found] if is_outside else []


def _read_image(path: Path, input_shape: tuple[int, ...], input_range: tuple[float, float]) -> tuple[Array, list[str]]:
    """Returns an image [1, channels, height, width] in the network's range, and what was done to it."""
    if len(input_shape) != 3 or input_shape[0] not in (1, 3) or input_range not in _FIXED_RANGES:
        of = f"inputs of shape {input_shape} with values of {input_range[0]:g} to {input_range[1]:g}"
        raise DataError(f"{path}: is no array, and the network takes {of}; give a .npy array of such")
    channels, height, width = input_shape
    try:
        content = Images([path], path.parent).content(0)
        with decoding(), opened(content) as image:
            notes = [f"resized from {image.width}x{image.height} to {width}x{height}"]
            notes = [] if image.size == (width, height) else notes
            pixels = decode(content, channels=channels, size=(height, width), fit="stretch")[np.newaxis]
    except DataError as error:
        raise DataError(f"{path}: {error}; expected {_NEW}") from None
    return pixels if input_range[1] == 255 else pixels * np.float32(input_range[1] / 255), notes
