"""CIFAR-10 and CIFAR-100: the Python version of their authors."""

from __future__ import annotations

import codecs
import io
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.checks import content_of, few, first_invalid, require_names
from labelembed.lab.data.data_notes import repeat_notes, repeated_pictures
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.arrays import ArrayReader

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAINING_PICTURES = 50_000
_ARCHIVES = (".tar.gz", ".tgz", ".tar")

Array = npt.NDArray[Any]
# How to get the content of a file, by the file's name.
Files = dict[str, Callable[[], bytes]]


class _Version(NamedTuple):
    title: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: int  # 10 or 100

    @property
    def members(self) -> tuple[str, ...]:
        return (*self.train, *self.test)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_VERSIONS = (
    _Version("CIFAR-10", "cifar-10-batches-py", _BATCHES, ("test_batch",), 10),
    _Version("CIFAR-100", "cifar-100-python", ("train",), ("test",), 100),
)


@dataclass(frozen=True, kw_only=True)
class CifarReader(ArrayReader):
    """CIFAR-10 or CIFAR-100: the Python version of its authors.

    Pictures are uint8 [N, 3, 32, 32]. The files of the Python version are pickles, of which only what makes an array of
    numbers is carried out.

    Args:
        path: The folder with the files (``data_batch_1`` ..., ``train``), the folder above, or the
            ``.tar.gz`` as it is published, which is not unpacked to the disk.
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

    @classmethod
    def finds(cls, place: Place) -> Found | None:
        """Returns which version of which of the two is there by its files.

        Raises:
            DataError: Some files are there and others are missing, or an archive is damaged.
        """
        path = place.path
        if path.is_file() and not path.name.lower().endswith(_ARCHIVES):
            return None
        try:
            files, where = _find(path)
        except DataError:
            if path.is_file():
                raise
            return None
        version = _version(files, where)
        names = tuple(map(str, range(version.classes)))
        return Found(f"{version.title}, {version.classes} classes", _TRAINING_PICTURES, names)

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; refuses files that are missing or damaged, and pickles that ask for anything else."""
        place, labels = Path(self.path).expanduser(), self.labels
        if any(any(folder.glob("*.parquet")) for folder in (place, place / "data")):
            raise DataError(f"{place}: holds parquet files, which --set data.name=images reads")
        files, where = _find(place)
        version = _version(files, where)
        if labels == "coarse" and version.classes == 10:
            raise DataError(f"{where}: CIFAR-10 has no coarse labels; leave `labels` out")
        count = version.classes if labels == "fine" else 20
        names, notes = _names(files, version, labels, count, where)
        splits: dict[str, Examples] = {}
        for part, members in (("train", version.train), ("test", version.test)):
            read = [_read(files[name](), f"{where}/{name}", version, labels, count) for name in members]
            pixels, found = (np.concatenate(arrays) for arrays in zip(*read, strict=True))
            splits[part] = Split(torch.from_numpy(pixels), torch.from_numpy(found))
        size = len(splits["train"])
        notes += repeat_notes(
            repeated_pictures(*(split.inputs.numpy() for split in splits.values())),
            labels={"training": splits["train"].labels, "test": splits["test"].labels},
            shown=lambda *pair: " = ".join(f"train {row}" if row < size else f"test {row - size}" for row in pair),
        )
        which = f", {labels} labels" if version.classes == 100 else ""
        return RawData(
            parts=splits,
            names=require_names(names, count, str(where)),
            input_range=(0.0, 255.0),
            source=f"{version.title}{which}, in {where}",
            notes=tuple(notes),
        )


def _find(place: Path) -> tuple[Files, Path]:
    """Returns the files there are to read, by name, and where they lie."""
    try:
        if place.is_file():
            return _of_archive(place), place
        if not place.is_dir():
            raise DataError(f"{place}: does not exist; expected the folder of CIFAR's files, or the .tar.gz of them")
        for folder in (place, *(place / version.folder for version in _VERSIONS)):
            if folder.is_dir():
                files: Files = {entry.name: partial(content_of, entry) for entry in folder.iterdir() if entry.is_file()}
                if any(name in files for version in _VERSIONS for name in version.members):
                    return files, folder
        seen = few(sorted(entry.name for entry in place.iterdir())) or "nothing"
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    raise DataError(
        f"{place}: holds no CIFAR files; expected data_batch_1 or train and the like (the Python version), found {seen}"
    )


def _of_archive(file: Path) -> Files:
    try:
        with tarfile.open(file) as archive:
            members = {Path(member.name).name: archive.extractfile(member) for member in archive}
            contents = {name: stream.read() for name, stream in members.items() if stream is not None}
    except Exception as error:  # tarfile, gzip and zlib each raise types of their own
        raise DataError(f"{file}: is no .tar.gz, cut off or damaged ({str(error)[:120]})") from None
    return {name: partial(bytes, content) for name, content in contents.items()}


def _version(files: Files, where: Path) -> _Version:
    """Returns the version of which most files are there."""
    version = max(_VERSIONS, key=lambda version: sum(name in files for name in version.members) / len(version.members))
    missing = [name for name in version.members if name not in files]
    if len(missing) == len(version.members):
        raise DataError(f"{where}: holds no CIFAR files; expected {version.train[0]} and the like")
    if missing:
        raise DataError(f"{where}: {version.title}: missing {', '.join(missing)}; fetch the files again")
    return version


def _read(content: bytes, where: str, version: _Version, labels: str, count: int) -> tuple[Array, Array]:
    """Returns the pictures [N, 3, 32, 32] and labels [N] of one file."""
    loaded = _load_pickle(content, where)
    try:
        key = "labels" if version.classes == 10 else f"{labels}_labels"
        pixels = np.asarray(loaded["data"], dtype=np.uint8).reshape(-1, 3, 32, 32)
        found = np.asarray(loaded[key], dtype=np.int64).reshape(len(pixels))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: does not hold what a CIFAR batch does ({error})") from None
    invalid = first_invalid(found, lambda chunk: (chunk < 0) | (chunk >= count))
    if invalid is not None:
        raise DataError(f"{where}: row {invalid[0]} has the label {invalid[1]}; expected 0 to {count - 1}")
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


def _load_pickle(content: bytes, where: str) -> dict[str, Any]:
    try:
        loaded = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except Exception as error:  # a damaged pickle makes Python raise nearly anything
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{where}: is damaged, or no CIFAR pickle ({reason})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{where}: expected a dictionary, found {type(loaded).__name__}")
    return {_text(key): value for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _names(files: Files, version: _Version, labels: str, count: int, where: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the labels, and what to say where the file with them is missing."""
    ten = version.classes == 10
    file, key = ("batches.meta", "label_names") if ten else ("meta", f"{labels}_label_names")
    if file in files:
        found = _load_pickle(files[file](), f"{where}/{file}").get(key)
        if not isinstance(found, list):
            raise DataError(f"{where}/{file}: `{key}`: expected a list of texts")
        return [_text(name) for name in found], []
    if ten:
        return list(CIFAR10_NAMES), []
    note = "the file with the labels' names is missing: they are called by their numbers"
    return [str(number) for number in range(count)], [note]
