"""Published data sets as their authors have them: MNIST's idx files, CIFAR's pickles, the digits of scikit-learn."""

from __future__ import annotations

import codecs
import io
import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labelembed.errors import DataError
from labelembed.lab.data.arrays import ArrayReader, raw_data, read_idx
from labelembed.lab.data.checks import content_of, few, sizes
from labelembed.lab.data.columns import numbered
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.splits import fraction_errors
from labelembed.lab.data.table_files import damage_named

FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_IDX_NAME = re.compile(
    r"(?P<prefix>.*?)-?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx\d-ubyte(\.gz)?", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class MnistReader(ArrayReader):
    """A folder with four idx files: images and labels, for training and for the test.

    The files may be gzip'd or not, and spelt ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``; the test files
    begin with ``t10k`` or ``test``; all four may have one prefix, as EMNIST's have. Images become [N, 1, H, W]. The
    values of the training labels become the labels' names, in their order.

    Args:
        path: The folder.
        names: Your own names of labels, as {"0": T-shirt, "1": trouser}. A folder or files with "fashion" in the name
            have the ten names of Fashion-MNIST without this.
    """

    path: str
    names: dict[str | int, str] | None = None

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing, damaged or do not go together."""
        folder = Path(self.path).expanduser()
        files = _idx_files(folder)
        arrays = {name: read_idx(file) for name, file in files.items()}
        for part in ("train", "test"):
            images, of_images = arrays[f"{part}_inputs"], arrays[f"{part}_labels"]
            if images.ndim != 3 or of_images.shape != images.shape[:1]:
                found = f"found {sizes(images.shape)} and {sizes(of_images.shape)}"
                raise DataError(f"{folder}: {part} files: expected pictures and a label for each, {found}")
        values = {part: list(map(str, arrays[f"{part}_labels"].tolist())) for part in ("train", "test")}
        names, labels = numbered(values, f"{folder}:", to_evaluate=to_evaluate)
        # torchvision keeps the files in FashionMNIST/raw
        where = [*folder.absolute().parts[-2:], *(file.name for file in files.values())]
        if set(names) <= set("0123456789") and any("fashion" in word.lower() for word in where):
            names = tuple(FASHION_NAMES[int(value)] for value in names)
        arrays |= {f"{part}_labels": labels[part].numpy() for part in labels} | {"names": np.array(names)}
        raw = raw_data(f"idx files in {folder}", arrays, to_evaluate=to_evaluate)
        return raw.renamed(self.names)


def _idx_files(folder: Path) -> dict[str, Path]:
    """Returns the four files: `train_inputs`, `train_labels`, `test_inputs`, `test_labels`."""
    entries = sorted(_entries(folder), key=lambda entry: not entry.name.endswith(".gz"))
    files: dict[str, Path] = {}
    matches = [(entry, match) for entry in entries if (match := _IDX_NAME.fullmatch(entry.name)) is not None]
    for entry, match in matches:  # unpacked files are the last ones, and are taken where both are there
        split = "train" if match["split"].lower() == "train" else "test"
        files[f"{split}_{'inputs' if match['kind'].lower() == 'images' else 'labels'}"] = entry
    prefixes = {match["prefix"] for _, match in matches}
    if len(prefixes) > 1:
        raise DataError(f"{folder}: holds several data sets, {few(sorted(prefixes))}; move one to a folder of its own")
    wanted = ("train_inputs", "train_labels", "test_inputs", "test_labels")
    missing = [name.replace("inputs", "images") for name in wanted if name not in files]
    if missing:
        held = few([entry.name for entry in entries]) or "nothing"
        raise DataError(f"{folder}: missing the idx files of {', '.join(missing)}; it holds {held}")
    return files


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of files")
    return sorted(folder.iterdir())


class Version(NamedTuple):
    """CIFAR-10 or CIFAR-100: how many labels it has, and its files, the last ones with test pictures and names."""

    title: str
    classes: int
    files: tuple[str, ...]


_TEN = Version("CIFAR-10", 10, (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"))
_HUNDRED = Version("CIFAR-100", 100, ("train", "test", "meta"))


def find_cifar(folder: Path) -> Version:
    """Returns whether a folder holds CIFAR-10 or CIFAR-100; raises DataError where files are missing."""
    there = [entry.name for entry in _entries(folder)]
    version = _HUNDRED if "meta" in there else _TEN
    missing = [name for name in version.files if name not in there]
    if missing:
        way_out = "fetch them again, or read parquet files with --set data.name=images"
        held = few(there) or "nothing"
        raise DataError(f"{folder}: {version.title}: missing {', '.join(missing)}; it holds {held}; {way_out}")
    return version


@dataclass(frozen=True, kw_only=True)
class CifarReader(ArrayReader):
    """CIFAR-10 or CIFAR-100: the Python version of its authors (the hub's parquet files are for `images`).

    Its files are pickles, of which only what makes an array of numbers is carried out.

    Args:
        path: The folder with the files: ``data_batch_1`` ..., ``train`` ...
    """

    path: str

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing or damaged, and pickles that ask for anything else."""
        folder = Path(self.path).expanduser()
        version = find_cifar(folder)
        *batches, meta = (load_pickle(folder / name) for name in version.files)
        try:
            pixels = [np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32) for batch in batches]
            labels = [np.asarray(batch.get("fine_labels", batch.get("labels")), dtype=np.int64) for batch in batches]
            names = np.array([_text(name) for name in meta.get("fine_label_names") or meta["label_names"]])
            arrays: dict[str, Any] = {"test_inputs": pixels.pop(), "test_labels": labels.pop(), "names": names}
            arrays |= {"train_inputs": np.concatenate(pixels), "train_labels": np.concatenate(labels)}
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{folder}: a file does not hold what those of CIFAR do ({error})") from None
        return raw_data(f"{version.title} in {folder}", arrays, to_evaluate=to_evaluate)


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
        raise ValueError(f"it asks for {asked}, which no CIFAR file needs; that is refused and nothing of it was run")


def load_pickle(file: Path) -> dict[str, Any]:
    """Returns the dictionary of a CIFAR file; whatever else its pickle asks for is refused, and nothing of it runs."""
    with damage_named(file):
        loaded = _ArraysOnly(io.BytesIO(content_of(file)), encoding="bytes").load()
        if not isinstance(loaded, dict):
            raise DataError(f"{file}: expected a dictionary, found {type(loaded).__name__}")
        return {_text(key): value for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@dataclass(frozen=True, kw_only=True)
class DigitsReader(ArrayReader):
    """The digits as uint8 images [N, 1, 8, 8] with values of 0 to 16.

    Args:
        test_fraction: Share of the 1,797 images that becomes the test set, between 0 and 1.
    """

    test_fraction: float = 0.25

    def __post_init__(self) -> None:
        fraction_errors(self.test_fraction).raise_if_any()

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set."""
        from sklearn.datasets import load_digits  # costs a second to import

        pixels, labels = load_digits(return_X_y=True)
        arrays = {"train_inputs": pixels.astype(np.uint8).reshape(-1, 1, 8, 8), "train_labels": labels}
        how: dict[str, Any] = {"test_fraction": self.test_fraction, "purpose": "digits test"}
        raw = raw_data("handwritten digits of scikit-learn", arrays, byte_range=(0.0, 16.0), **how)
        return replace(raw, notes=())
