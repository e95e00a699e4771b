"""Published data sets as their authors have them: MNIST's idx files, CIFAR's pickles, the digits of scikit-learn."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labelembed.errors import DataError
from labelembed.lab.data.arrays import Array, ArrayReader, raw_data
from labelembed.lab.data.checks import content_of, few, require_file, sizes
from labelembed.lab.data.columns import numbered
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.splits import fraction_errors
from labelembed.lab.data.table_files import damage_named

_IDX_NAME = re.compile(r"(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?")


def read_idx(path: Path) -> Array:
    """Returns the array of an idx file of bytes, plain or gzip'd. Raises DataError where it is none, or damaged."""
    require_file(path, "an idx file")
    content = content_of(path)
    if content[:3] != b"\x00\x00\x08" or not 1 <= int.from_bytes(content[3:4]) <= 8:
        raise DataError(f"{path}: is no idx file of bytes; it begins with {content[:4].hex(' ') or 'nothing'}")
    begin = 4 + 4 * content[3]
    with damage_named(path):
        shape = np.frombuffer(content[4:begin], dtype=">u4").tolist()
        return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(shape).copy()


@dataclass(frozen=True, kw_only=True)
class MnistReader(ArrayReader):
    """A folder with four idx files: images and labels, for training and for the test.

    The files may be gzip'd or not, and spelt ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``; the test files
    begin with ``t10k`` or ``test``. Images become [N, 1, H, W]. The values of the training labels become the labels'
    names, in their order.

    Args:
        path: The folder.
        names: Your own names of labels, as {"0": T-shirt, "1": trouser}.
    """

    path: str
    names: dict[str | int, str] | None = None

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set; refuses files that are missing, damaged or do not go together."""
        folder = Path(self.path).expanduser()
        arrays = {}
        for name, file in _idx_files(folder).items():
            arrays[name] = array = read_idx(file)
            if array.ndim != (3 if name.endswith("inputs") else 1):
                raise DataError(f"{file}: expected pictures [N, H, W] and labels [N], found {sizes(array.shape)}")
        values = {part: list(map(str, arrays[f"{part}_labels"].tolist())) for part in ("train", "test")}
        names, labels = numbered(values, f"{folder}:", to_evaluate=to_evaluate)
        arrays |= {f"{part}_labels": labels[part].numpy() for part in labels} | {"names": np.array(names)}
        raw = raw_data(f"idx files in {folder}", arrays, to_evaluate=to_evaluate)
        return raw.renamed(self.names)


def _idx_files(folder: Path) -> dict[str, Path]:
    """Returns the four files: `train_inputs`, `train_labels`, `test_inputs`, `test_labels`."""
    if not folder.is_dir():
        raise DataError(f"{folder}: {'expected a folder of files' if folder.exists() else 'no such folder'}")
    entries = sorted(entry.name for entry in folder.iterdir())
    files: dict[str, Path] = {}
    for match in filter(None, map(_IDX_NAME.fullmatch, entries)):  # in the order of names: unpacked files come first
        part, kind = "train" if match[1] == "train" else "test", "inputs" if match[2] == "images" else "labels"
        files.setdefault(f"{part}_{kind}", folder / match[0])
    wanted = ("train_inputs", "train_labels", "test_inputs", "test_labels")
    missing = [name.replace("inputs", "images") for name in wanted if name not in files]
    if missing:
        held = few(entries) or "nothing"
        raise DataError(f"{folder}: missing the idx files of {', '.join(missing)}; it holds {held}")
    return files


@dataclass(frozen=True, kw_only=True)
class CifarReader(ArrayReader):
    """CIFAR-10 or CIFAR-100: the Python version of its authors (the hub's parquet files are for `images`).

    Its files are pickles, of which only what makes an array of numbers is carried out.

    Args:
        path: The folder with the files: ``data_batch_1`` ..., ``train`` ...
    """

    path: str

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set; refuses files that are missing or damaged, and pickles that ask for anything else."""
        folder = Path(self.path).expanduser()
        title, files, prefix = "CIFAR-10", [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch", "batches.meta"], ""
        if (folder / "meta").exists():
            title, files, prefix = "CIFAR-100", ["train", "test", "meta"], "fine_"
        loaded = []
        for name in files:
            require_file(folder / name, f"a file of {title}'s Python version")
            with damage_named(folder / name), (folder / name).open("rb") as file:
                loaded.append(_ArraysOnly(file, encoding="latin1").load())  # Python 2 wrote them
        *batches, meta = loaded
        with damage_named(folder):
            pixels = [np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32) for batch in batches]
            labels = [np.asarray(batch[f"{prefix}labels"], dtype=np.int64) for batch in batches]
            arrays: dict[str, Any] = {"test_inputs": pixels.pop(), "test_labels": labels.pop()}
            arrays |= {"train_inputs": np.concatenate(pixels), "train_labels": np.concatenate(labels)}
            arrays["names"] = np.array(meta[f"{prefix}label_names"])
        return raw_data(f"{title} in {folder}", arrays, to_evaluate=to_evaluate)


class _ArraysOnly(pickle.Unpickler):
    """Loads numbers, texts, lists, dictionaries and NumPy arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the allowed classes only; the method it overrides would import any module."""
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.zeros(1).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        asked = f"{module[:60]}.{name[:60]}"
        raise ValueError(f"it asks for {asked}, which no CIFAR file needs; that is refused and nothing of it was run")


@dataclass(frozen=True, kw_only=True)
class DigitsReader(ArrayReader):
    """The digits of scikit-learn as uint8 images [N, 1, 8, 8] with values of 0 to 16.

    Args:
        test_fraction: Share of the 1,797 images that becomes the test set, between 0 and 1.
    """

    test_fraction: float = 0.25

    def __post_init__(self) -> None:
        fraction_errors(self.test_fraction).raise_if_any()

    def read(self, *, to_evaluate: bool = False) -> RawData:
        """Returns the data set."""
        from sklearn.datasets import load_digits  # costs a second to import

        pixels, labels = load_digits(return_X_y=True)
        arrays = {"train_inputs": pixels.astype(np.uint8).reshape(-1, 1, 8, 8), "train_labels": labels}
        how: dict[str, Any] = {"test_fraction": self.test_fraction, "purpose": "digits test"}
        raw = raw_data("handwritten digits of scikit-learn", arrays, **how)
        return replace(raw, notes=(), input_range=(0.0, 16.0))
