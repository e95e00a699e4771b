"""Four idx files: MNIST, Fashion-MNIST, KMNIST, EMNIST and data sets laid out like them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import DataError, unknown_name
from labelembed.lab.data.batch import Split
from labelembed.lab.data.checks import few, sizes
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.files.idx import read_idx
from labelembed.lab.data.files.labels import numbered
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.arrays import ArrayReader

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_PARTS = ("train", "test")
_FILE_NAME = re.compile(
    r"(?P<prefix>.*?)-?(?P<split>train|t10k|test)-(?P<part>images|labels)[-.]idx(?P<dimensions>\d)-ubyte(\.gz)?",
    re.IGNORECASE,
)
# (split, part) -> how the official file is called, after any prefix
_OFFICIAL = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}

Files = dict[tuple[str, str], Path]


@dataclass(frozen=True, kw_only=True)
class MnistReader(ArrayReader):
    """A folder with four idx files: images and labels, for training and for the test.

    The files may be gzip'd or not, and spelt ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``; the
    test files begin with ``t10k`` or ``test``; all four may have one prefix, as EMNIST's have
    (``emnist-balanced-train-images-idx3-ubyte.gz``). Images become [N, 1, H, W], as they are stored: EMNIST
    stores them with rows and columns exchanged.

    The labels are numbered 0, 1, ... in the order of the values that stand in the training labels (EMNIST
    letters: 1 to 26 become 0 to 25); the values become the names.

    Args:
        path: The folder.
        names: Names of the labels in the order of their values, instead of the values. A folder or files with
            "fashion" in the name have the ten names of Fashion-MNIST without this.
        prefix: Which set to read where the folder holds several, for instance ``emnist-letters``.
    """

    path: str
    names: list[str] | None = None
    prefix: str | None = None

    @classmethod
    def finds(cls, place: Place) -> Found | None:
        """Returns what the idx files of a folder hold.

        Raises:
            DataError: As `read`.
        """
        path = place.path
        if not path.is_dir() or not any(_FILE_NAME.fullmatch(entry.name) for entry in path.iterdir()):
            return None
        raw = cls(path=str(path), prefix=place.text("prefix")).read()
        count = sum(map(len, raw.parts.values()))
        return Found(f"{count:,} pictures of idx files, {len(raw.names):,} classes", len(raw.train), raw.names)

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing, damaged or do not go together."""
        folder = Path(self.path).expanduser()
        files = _find_files(folder, self.prefix)
        read = {part: _read_pair(files, part) for part in _PARTS}
        shapes = [images.shape[1:] for images, _ in read.values()]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{files['test', 'images']}: expected images of {sizes(shapes[0])} as in the training set, "
                f"found {sizes(shapes[1])}"
            )
        values = {part: list(map(str, values.tolist())) for part, (_, values) in read.items()}
        names, labels = numbered(values, f"{folder}:", to_evaluate=to_evaluate)
        if self.names is None and set(names) <= set(map(str, range(10))) and _says_fashion(folder, files):
            names = tuple(FASHION_NAMES[int(value)] for value in names)
        raw = RawData(
            parts={
                part: Split(torch.from_numpy(images).unsqueeze(1), labels[part]) for part, (images, _) in read.items()
            },
            names=names,
            input_range=(0.0, 255.0),
            source=f"idx files in {folder}",
        )
        return raw if to_evaluate else raw.renamed(self.names)


def _find_files(folder: Path, prefix: str | None) -> Files:
    try:
        if not folder.is_dir():
            there = "is a file" if folder.is_file() else "does not exist"
            raise DataError(f"{folder}: {there}; expected the folder that holds the four idx files")
        entries = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: the folder cannot be read ({error})") from None
    sets: dict[str, Files] = {}
    # plain files come first where both stand there: they need no unpacking
    for entry in sorted(entries, key=lambda entry: entry.name.lower().endswith(".gz")):
        match = _FILE_NAME.fullmatch(entry.name)
        if match and entry.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            sets.setdefault(match["prefix"], {}).setdefault((split, match["part"].lower()), entry)
    if prefix is not None:
        prefix = prefix.rstrip("-")
        if sets and prefix not in sets:
            raise DataError(f"{folder}: {unknown_name('prefix', prefix, sets)}")
    elif len(sets) > 1:
        raise DataError(f"{folder}: holds {len(sets)} data sets; choose one by `prefix`: {few(sorted(sets))}")
    else:
        prefix = next(iter(sets), "")
    files = sets.get(prefix, {})
    start = f"{prefix}-" if prefix else ""
    missing = [f"{start}{name}" for key, name in _OFFICIAL.items() if key not in files]
    if missing:
        seen = few([entry.name for entry in entries if not entry.name.startswith(".")]) or "nothing"
        raise DataError(f"{folder}: missing {', '.join(missing)} (each may end in .gz); it holds {seen}")
    return files


def _read_pair(files: Files, split: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the images [N, H, W] and the label values [N] of one split."""
    images_path, labels_path = files[split, "images"], files[split, "labels"]
    images, values = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise DataError(
            f"{images_path}: expected images of 3 dimensions (number, height, width) of uint8, "
            f"found {images.ndim} of {images.dtype}"
        )
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataError(
            f"{labels_path}: expected labels of 1 dimension of whole numbers, found {values.ndim} of {values.dtype}"
        )
    if len(images) != len(values):
        raise DataError(
            f"{labels_path}: expected a label for each of the {len(images):,} images of {images_path.name}, "
            f"found {len(values):,} labels"
        )
    if images.size == 0:
        raise DataError(f"{images_path}: expected at least one image, found {sizes(images.shape)} pixels")
    if values.min() < 0:
        row = int(np.argmax(values < 0))
        raise DataError(f"{labels_path}: row {row} has the label {values[row]}; expected 0 or more")
    return images, values


def _says_fashion(folder: Path, files: Files) -> bool:
    """Tells whether folder or files say "fashion"."""
    where = folder.absolute()
    # torchvision keeps the files in FashionMNIST/raw
    words = [where.name, where.parent.name if where.name == "raw" else "", *(file.name for file in files.values())]
    return any("fashion" in word.lower() for word in words)
