"""Makers of small data files, and the way to the real ones where somebody has them."""

from __future__ import annotations

import gzip
import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from labelembed.lab.data import Split
from tests.made_texts import write_columns

_IDX_TYPES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def real_data_folder(name: str) -> Path:
    """The folder of a real data set; skips the test where there is none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LABELEMBED_DATA") or beside) / name
    if not folder.is_dir():
        pytest.skip(f"the real data set {name} is not at {folder}; name its parent folder in LABELEMBED_DATA")
    return folder


def idx_bytes(array) -> bytes:
    array = np.asarray(array)
    header = struct.pack(">BBBB", 0, 0, _IDX_TYPES[array.dtype.name], array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return header + sizes + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(path: Path, array, *, zipped: bool = False) -> Path:
    content = idx_bytes(array)
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return path


def made_images(rows: int, *, height: int = 4, width: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width), dtype=np.uint8)


def write_idx_folder(
    folder: Path,
    *,
    train_images=None,
    train_labels=None,
    test_images=None,
    test_labels=None,
    test_word: str = "t10k",
    zipped: bool = False,
    dotted: bool = False,
) -> Path:
    """Writes the four files of an idx data set: 30 training and 10 test images of 10 labels unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {
        ("train", "images", 3): made_images(30) if train_images is None else train_images,
        ("train", "labels", 1): np.arange(30, dtype=np.uint8) % 10 if train_labels is None else train_labels,
        (test_word, "images", 3): made_images(10, seed=1) if test_images is None else test_images,
        (test_word, "labels", 1): np.arange(10, dtype=np.uint8) if test_labels is None else test_labels,
    }
    for (split, part, dimensions), array in parts.items():
        name = f"{split}-{part}{'.' if dotted else '-'}idx{dimensions}-ubyte{'.gz' if zipped else ''}"
        write_idx(folder / name, array, zipped=zipped)
    return folder


def made_arrays(**changes) -> dict[str, np.ndarray]:
    """The arrays of a small npz data set: 12 and 6 rows of 5 features, 3 labels; a change to None leaves one out."""
    generator = np.random.default_rng(0)
    arrays = {
        "train_inputs": generator.normal(size=(12, 5)),
        "train_labels": np.arange(12) % 3,
        "test_inputs": generator.normal(size=(6, 5)),
        "test_labels": np.arange(6) % 3,
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


def write_arrays(path: Path, **changes) -> Path:
    np.savez(path, **made_arrays(**changes))
    return path


def write_image(path: Path | io.BytesIO, pixels, mode: str | None = None, **options) -> Path:
    """Writes pixels [H, W] or [H, W, channels] of uint8 (or uint16 grey) in the format that the name says."""
    from PIL import Image

    image = Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def picture_bytes(pixels) -> bytes:
    """The PNG file of pixels [H, W] or [H, W, channels]."""
    stream = io.BytesIO()
    write_image(stream, pixels, format="PNG")
    return stream.getvalue()


def write_parquet(path: Path, *, class_names: dict[str, list[str]] | None = None, **columns) -> Path:
    """Writes a parquet file as the hub has it: pictures as {bytes, path} where a column holds bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for name, values in columns.items():
        if any(isinstance(value, bytes) for value in values):
            columns[name] = [value if value is None else {"bytes": value, "path": None} for value in values]
    return write_columns(path, columns, label_names=class_names)


def made_colours(rows: int, *, size: int = 16, seed: int = 0) -> np.ndarray:
    """Colour pictures [N, H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (rows, size, size, 3), dtype=np.uint8)


def dense(inputs) -> torch.Tensor:
    """Inputs as a tensor; ids of words filled up with 0."""
    return inputs if isinstance(inputs, torch.Tensor) else inputs.padded()


def made_split(rows: int = 23, num_labels: int = 3) -> Split:
    """A split whose inputs and labels both tell the row."""
    inputs = torch.arange(rows, dtype=torch.float32)[:, None] * torch.tensor([1.0, 10.0])
    return Split(inputs, torch.arange(rows) % num_labels)
