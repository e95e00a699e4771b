"""Published data sets as their authors have them: MNIST's idx files, CIFAR's pickles, the digits of scikit-learn."""

from __future__ import annotations

import codecs
import io
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import ArgumentErrors, DataError, unknown_name
from labelembed.lab.data.array_files import read_idx
from labelembed.lab.data.arrays import ArrayReader
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import content_of, few, first_invalid, require_names, sizes
from labelembed.lab.data.columns import numbered
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.splits import assigned, fraction_errors

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_IDX_NAME = re.compile(
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

Array = npt.NDArray[Any]


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

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing, damaged or do not go together."""
        folder = Path(self.path).expanduser()
        files = _find_idx(folder, self.prefix)
        (train, train_values), (test, test_values) = (_read_pair(files, split) for split in ("train", "test"))
        if train.shape[1:] != test.shape[1:]:
            expected = f"expected images of {sizes(train.shape[1:])} as in the training set"
            raise DataError(f"{files['test', 'images']}: {expected}, found {sizes(test.shape[1:])}")
        values = {"train": list(map(str, train_values.tolist())), "test": list(map(str, test_values.tolist()))}
        names, labels = numbered(values, f"{folder}:", to_evaluate=to_evaluate)
        if self.names is None and set(names) <= set(map(str, range(10))) and _is_fashion(folder, files):
            names = tuple(FASHION_NAMES[int(value)] for value in names)
        images = {"train": train, "test": test}
        raw = RawData(
            parts={split: Split(torch.from_numpy(images[split]).unsqueeze(1), labels[split]) for split in images},
            names=names,
            input_range=(0.0, 255.0),
            source=f"idx files in {folder}",
        )
        return raw if to_evaluate else raw.renamed(self.names)


def is_idx_name(name: str) -> bool:
    """Tells whether a file is called as those of MNIST are."""
    return _IDX_NAME.fullmatch(name) is not None


def _find_idx(folder: Path, prefix: str | None) -> dict[tuple[str, str], Path]:
    """Returns the four files by split (train, test) and part (images, labels)."""
    try:
        entries = sorted(folder.iterdir())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{folder}: expected the folder that holds the four idx files ({reason})") from None
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    # plain files come first where both stand there: they need no unpacking
    for entry in sorted(entries, key=lambda entry: entry.name.lower().endswith(".gz")):
        match = _IDX_NAME.fullmatch(entry.name)
        if match and entry.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            sets.setdefault(match["prefix"], {}).setdefault((split, match["part"].lower()), entry)
    if prefix is not None and sets and prefix.rstrip("-") not in sets:
        raise DataError(f"{folder}: {unknown_name('prefix', prefix, sets)}")
    if prefix is None and len(sets) > 1:
        raise DataError(f"{folder}: holds {len(sets)} data sets; choose one by `prefix`: {few(sorted(sets))}")
    chosen = next(iter(sets), "") if prefix is None else prefix.rstrip("-")
    files = sets.get(chosen, {})
    missing = [f"{chosen}-{name}".removeprefix("-") for key, name in _OFFICIAL.items() if key not in files]
    if missing:
        seen = few([entry.name for entry in entries if not entry.name.startswith(".")]) or "nothing"
        raise DataError(f"{folder}: missing {', '.join(missing)} (each may end in .gz); it holds {seen}")
    return files


def _read_pair(files: dict[tuple[str, str], Path], split: str) -> tuple[Array, Array]:
    """Returns the images [N, H, W] and the label values [N] of one split."""
    images_file, labels_file = files[split, "images"], files[split, "labels"]
    images, values = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or images.dtype != np.uint8 or images.size == 0:
        found = f"{sizes(images.shape)} of {images.dtype}"
        raise DataError(f"{images_file}: expected images of bytes (number, height, width), one or more, found {found}")
    if values.ndim != 1 or values.dtype.kind not in "iu" or len(images) != len(values):
        found = f"{sizes(values.shape)} of {values.dtype}"
        raise DataError(f"{labels_file}: expected {len(images):,} whole numbers, a label for each image, found {found}")
    if values.min() < 0:
        row = int(np.argmax(values < 0))
        raise DataError(f"{labels_file}: row {row} has the label {values[row]}; expected 0 or more")
    return images, values


def _is_fashion(folder: Path, files: dict[tuple[str, str], Path]) -> bool:
    """Tells whether folder or files say "fashion"; torchvision keeps the files in FashionMNIST/raw."""
    where = folder.absolute()
    words = [where.name, where.parent.name if where.name == "raw" else "", *(file.name for file in files.values())]
    return any("fashion" in word.lower() for word in words)


Files = dict[str, Path]


class Version(NamedTuple):
    """CIFAR-10 or CIFAR-100: its files, and how many labels it has."""

    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: int  # 10 or 100

    @property
    def members(self) -> tuple[str, ...]:
        """Its files with images."""
        return (*self.train, *self.test)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_VERSIONS = (Version("CIFAR-10", _BATCHES, ("test_batch",), 10), Version("CIFAR-100", ("train",), ("test",), 100))


@dataclass(frozen=True, kw_only=True)
class CifarReader(ArrayReader):
    """CIFAR-10 or CIFAR-100: the Python version of its authors (the hub's parquet files are for `images`).

    Pictures are uint8 [N, 3, 32, 32]. The files of the Python version are pickles, of which only what makes an array of
    numbers is carried out.

    Args:
        path: The folder with the files: ``data_batch_1`` ..., ``train`` ...
        labels: `fine`: the 100 labels of CIFAR-100; `coarse`: its 20 groups. CIFAR-10 has only its 10.

    Raises:
        ValueError: `labels` is unknown.
    """

    path: str
    labels: Literal["fine", "coarse"] = "fine"

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = ArgumentErrors()
        errors.choice("labels", self.labels, ("fine", "coarse"))
        return errors

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing or damaged, and pickles that ask for anything else."""
        place, labels = Path(self.path).expanduser(), self.labels
        files, version = find_cifar(place)
        if labels == "coarse" and version.classes == 10:
            raise DataError(f"{place}: CIFAR-10 has no coarse labels; leave `labels` out")
        count = version.classes if labels == "fine" else 20
        names, notes = _names(files, version, labels, count, place)
        splits: dict[str, Examples] = {}
        for part, members in (("train", version.train), ("test", version.test)):
            read = [_read(files[name], version, labels, count) for name in members]
            pixels, found = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
            splits[part] = Split(torch.from_numpy(pixels), torch.from_numpy(found))
        which = f", {labels} labels" if version.classes == 100 else ""
        return RawData(
            parts=splits,
            names=require_names(names, count, str(place)),
            input_range=(0.0, 255.0),
            source=f"{version.title}{which}, in {place}",
            notes=tuple(notes),
        )


def find_cifar(place: Path) -> tuple[Files, Version]:
    """Returns the files of the Python version in a folder, and of which data set they are.

    Raises:
        DataError: There are none, or some are missing.
    """
    try:
        files: Files = {entry.name: entry for entry in place.iterdir() if entry.is_file()}
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: expected the folder of CIFAR's files ({error})") from None
    version = max(_VERSIONS, key=lambda version: sum(name in files for name in version.members) / len(version.members))
    missing = [name for name in version.members if name not in files]
    if len(missing) == len(version.members):
        seen = few(sorted(files)) or "nothing"
        way = "; parquet files: --set data.name=images" if any(name.endswith(".parquet") for name in files) else ""
        raise DataError(f"{place}: holds no CIFAR files, data_batch_1 or train and the like; found {seen}{way}")
    if missing:
        raise DataError(f"{place}: {version.title}: missing {', '.join(missing)}; fetch the files again")
    return files, version


def _read(file: Path, version: Version, labels: str, count: int) -> tuple[Array, Array]:
    """Returns the pictures [N, 3, 32, 32] and labels [N] of one file."""
    loaded = load_pickle(file)
    try:
        key = "labels" if version.classes == 10 else f"{labels}_labels"
        pixels = np.asarray(loaded["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        found = np.asarray(loaded[key], dtype=np.int64).reshape(len(pixels))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{file}: does not hold what a CIFAR batch does ({error})") from None
    invalid = first_invalid(found, lambda chunk: (chunk < 0) | (chunk >= count))
    if invalid is not None:
        raise DataError(f"{file}: row {invalid[0]} has the label {invalid[1]}; expected 0 to {count - 1}")
    return pixels, found


# What makes an array in a pickle, of any version of NumPy and Python.
_RECONSTRUCT, _FROM_BUFFER = (np.zeros(1).__reduce_ex__(protocol)[0] for protocol in (2, 5))
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _FROM_BUFFER for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    """Loads numbers, texts, lists, dictionaries and NumPy arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands for a name; overrides what would import any module."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        asked = f"{module[:60]}.{name[:60]}"
        raise DataError(
            f"the pickle asks for {asked}, which no CIFAR file needs; it is refused and nothing of it was run"
        )


def load_pickle(file: Path) -> dict[str, Any]:
    """Returns the dictionary of a CIFAR file; whatever else its pickle asks for is refused, and nothing of it runs."""
    try:
        loaded = _ArraysOnly(io.BytesIO(content_of(file)), encoding="bytes").load()
    except DataError as error:
        raise DataError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    except Exception as error:  # a damaged pickle makes Python raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{file}: is damaged, or no CIFAR pickle ({reason})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{file}: expected a dictionary, found {type(loaded).__name__}")
    return {_text(key): value for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _names(files: Files, version: Version, labels: str, count: int, place: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the labels, and what to say where the file with them is missing."""
    ten = version.classes == 10
    name, key = ("batches.meta", "label_names") if ten else ("meta", f"{labels}_label_names")
    if name in files:
        found = load_pickle(files[name]).get(key)
        if not isinstance(found, list):
            raise DataError(f"{files[name]}: `{key}`: expected a list of texts")
        return [_text(label) for label in found], []
    note = "the file with the labels' names is missing: they are called by their numbers"
    return (list(CIFAR10_NAMES), []) if ten else (list(map(str, range(count))), [note])


@dataclass(frozen=True, kw_only=True)
class DigitsReader(ArrayReader):
    """The digits as uint8 images [N, 1, 8, 8] with values of 0 to 16.

    Args:
        test_fraction: Share of the 1,797 images that becomes the test set, between 0 and 1.
    """

    test_fraction: float = 0.25

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        return fraction_errors(self.test_fraction)

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set."""
        from sklearn.datasets import load_digits  # costs a second to import

        pixels, labels = load_digits(return_X_y=True)
        inputs = torch.from_numpy(np.asarray(pixels, dtype=np.uint8).reshape(-1, 1, 8, 8))
        every = {"train": Split(inputs, torch.from_numpy(np.asarray(labels, dtype=np.int64)))}
        source = "handwritten digits of scikit-learn"
        parts, _ = assigned(every, self.test_fraction, source=source, purpose="digits test")
        names = tuple(str(digit) for digit in range(10))
        return RawData(parts=parts, names=names, input_range=(0.0, 16.0), source=source)
