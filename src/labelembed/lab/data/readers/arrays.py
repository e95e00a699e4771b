"""What readers of pictures and vectors share: inputs to predict for, brought to the shape the network knows."""

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
from labelembed.lab.data.checks import GZIP_MAGIC, first_invalid, require_file, require_finite, sizes
from labelembed.lab.data.encoder import Encoder, NewExamples, Unchanged
from labelembed.lab.data.files.arrays import read_npy
from labelembed.lab.data.files.idx import looks_like_idx, read_idx
from labelembed.lab.data.image_files import Fit, Images, decode, decoding, read_header

ACCEPTED = "an image (PNG, JPEG, WebP, GIF, BMP, TIFF), a .npy array or an idx image file (gzip'd or not)"
_CHANGES = {
    "stretch": "which changes its proportions",
    "crop": "of its middle only",
    "pad": "with black borders",
}
# Scales whose ends are fixed by what the values mean. Any other range is what the training data happened to
# hold, and a new row may well go beyond it.
_FIXED_RANGES = ((0.0, 1.0), (0.0, 16.0), (0.0, 255.0))

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class ArrayReader:
    """Reads data whose files hold the inputs themselves: pictures and vectors."""

    def __post_init__(self) -> None:
        self.errors().raise_if_any()

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        return ArgumentErrors()

    @property
    def fit_of_new(self) -> Fit | None:
        """How new pictures are brought to the size of the training pictures; None where these had it."""
        return None

    def new_encoder(self) -> Unchanged:
        """Returns what learns shape and range of the inputs."""
        return Unchanged()

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns the inputs of a file to predict for; see `read_inputs`.

        Args:
            file: An image, a .npy array or an idx file.
            encoder: That of the run.
            invert: Exchange dark and light.

        Raises:
            DataError: The file cannot be used.
        """
        assert isinstance(encoder, Unchanged)  # as `new_encoder` made it
        shape, ends = encoder.input_shape or (), encoder.input_range
        found = read_inputs(file, input_shape=shape, input_range=ends, invert=invert, fit=self.fit_of_new)
        return NewExamples(*found)


def read_inputs(
    path: Path,
    *,
    input_shape: tuple[int, ...],
    input_range: tuple[float, float],
    invert: bool = False,
    fit: Fit | None = None,
) -> tuple[Tensor, list[str], list[str]]:
    """Returns the inputs of one file for a network trained on inputs of `input_shape` and `input_range`.

    The kind of file is seen from its content. An image is made grey or coloured, resized to the network's
    size and scaled to its range. An array or an idx file must have the right size and range already; it may
    hold one input or many, with or without the channel axis of grey images, or each input as one row of
    numbers. Nothing is unpickled.

    Args:
        path: The file.
        input_shape: (channels, height, width) or (features,).
        input_range: Smallest and largest value of the training inputs.
        invert: Exchange dark and light: ``low + high - value``. For dark digits on white paper, where the
            network was trained on light digits on black.
        fit: How the training pictures were brought to their size: `crop`, `stretch` or `pad`. None: they had it,
            and an image of another size is stretched.

    Returns:
        inputs: [N, *input_shape], uint8 or float32, in the units of the training inputs.
        names: N names, ``file.png`` for a file with one input, ``file.npy[3]`` for a row of many.
        notes: What was changed and may matter, one line each.

    Raises:
        DataError: The file is missing, damaged, of an unknown type, or its values or shape do not fit.
    """
    path = Path(path)
    require_file(path, ACCEPTED)
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    notes: list[str] = []
    is_array = beginning.startswith(b"\x93NUMPY")
    if is_array or beginning.startswith(GZIP_MAGIC) or looks_like_idx(beginning):
        array = _numbers_of(read_npy(path), path) if is_array else read_idx(path)
        inputs, single = _as_rows(array, input_shape, path)
        _check_values(inputs, input_range, path, notes)
    elif beginning.startswith((b"PK\x03\x04", b"\x80")):
        raise DataError(f"{path}: is an .npz, a zip or a pickle; expected {ACCEPTED}")
    else:
        inputs, single = _read_picture(path, input_shape, input_range, fit or "stretch", notes)[np.newaxis], True
    if inputs.dtype != np.uint8 or input_range not in _FIXED_RANGES:
        with np.errstate(over="ignore"):  # what is too large becomes infinite and is named
            inputs = inputs.astype(np.float32)
        require_finite(inputs, f"{path} as float32")
    if invert:
        inputs = inputs.dtype.type(input_range[0] + input_range[1]) - inputs
        notes.append("dark and light exchanged")
    names = [path.name] if single else [f"{path.name}[{row}]" for row in range(len(inputs))]
    return torch.from_numpy(np.ascontiguousarray(inputs)), names, notes


def _numbers_of(array: Array, path: Path) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected an array of numbers, found {array.dtype}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    # the ends of a range may be too large for float16
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _as_rows(array: Array, input_shape: tuple[int, ...], path: Path) -> tuple[Array, bool]:
    """Returns the array as [N, *input_shape] and whether it was a single input."""
    shapes = [input_shape]
    if len(input_shape) == 3 and input_shape[0] == 1:
        shapes.append(input_shape[1:])
    if len(input_shape) > 1:
        shapes.append((math.prod(input_shape),))
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
    largest = inputs.max()
    scale = f"the network was trained on values of {low:g} to {high:g}"
    if input_range in _FIXED_RANGES and high > 1 and 0 < largest <= 1:
        if inputs.dtype.kind == "f":
            raise DataError(
                f"{path}: looks scaled to [0, 1] (the largest value is {largest:g}), but {scale}; multiply by {high:g}"
            )
        notes.append(f"no value is larger than {largest}, while {scale}")
    invalid = first_invalid(inputs, lambda chunk: (chunk < low) | (chunk > high))
    if invalid is None:
        return
    # vectors whose training values happened to lie within [0, 1] may have others elsewhere
    if input_range in _FIXED_RANGES and not (inputs.ndim == 2 and high == 1):
        raise DataError(f"{path}: row {invalid[0]} has the value {invalid[1]:g}; {scale}")
    notes.append(f"row {invalid[0]} has the value {invalid[1]:g}, while {scale}")


def _read_picture(
    path: Path, input_shape: tuple[int, ...], input_range: tuple[float, float], fit: Fit, notes: list[str]
) -> Array:
    """Returns a picture [channels, height, width] in the network's range, and notes what was done to it."""
    try:
        content = Images([path], path.parent).content(0)
        with decoding():
            (height, width), _ = read_header(content)
            if len(input_shape) != 3 or input_shape[0] not in (1, 3):
                raise DataError(
                    f"is an image, but the network takes inputs of shape {input_shape}; give a .npy array of that shape"
                )
            size = (input_shape[1], input_shape[2])
            pixels = decode(content, channels=input_shape[0], size=size, fit=fit)
    except DataError as error:
        raise DataError(f"{path}: {error}" + (f"; expected {ACCEPTED}" if "no picture" in str(error) else "")) from None
    if (height, width) != size:
        change = "" if height * size[1] == width * size[0] else f", {_CHANGES[fit]}"
        notes.append(f"resized from {width}x{height} to {size[1]}x{size[0]}{change}")
    if input_range not in _FIXED_RANGES:
        raise DataError(
            f"{path}: the network was trained on arrays with values of {input_range[0]:g} to {input_range[1]:g}, "
            "which says nothing of black and white; give a .npy array prepared like the training data"
        )
    if input_range == (0.0, 255.0):
        return pixels
    scaled: Array = pixels.astype(np.float32) * np.float32(input_range[1] / 255)
    return scaled
