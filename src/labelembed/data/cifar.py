"""CIFAR-10 and CIFAR-100 as their authors publish them: the binary and the Python version."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.batch import Split
from labelembed.data.checks import first_fault, printable, require_names
from labelembed.data.data_notes import repeat_notes, repeated_rows
from labelembed.data.dataset import RawData
from labelembed.data.idx import GZIP_MAGIC
from labelembed.data.restricted_pickle import arrays_of, restricted_load
from labelembed.errors import ArgumentFaults, DataError

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PICTURE = (3, 32, 32)
_PICTURE_BYTES = 3 * 32 * 32
_PUBLISHED_ROWS = {"train": 50_000, "test": 10_000}
# Five times a batch of the Python version of CIFAR-100, the largest file there is.
_MAXIMUM_BYTES = 2**30

Array = npt.NDArray[Any]
# How to get the content of a file, by the file's name.
Files = dict[str, Callable[[], bytes]]


class _Version(NamedTuple):
    title: str
    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    classes: int  # 10 or 100
    pickled: bool

    @property
    def meta(self) -> str:
        """The file of the names in the Python version."""
        return "batches.meta" if self.classes == 10 else "meta"


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
# Plain bytes first, where a folder holds both.
_VERSIONS = (
    _Version("CIFAR-10, binary version", "cifar-10-batches-bin", tuple(f"{name}.bin" for name in _BATCHES),
             ("test_batch.bin",), 10, False),
    _Version("CIFAR-100, binary version", "cifar-100-binary", ("train.bin",), ("test.bin",), 100, False),
    _Version("CIFAR-10, Python version", "cifar-10-batches-py", _BATCHES, ("test_batch",), 10, True),
    _Version("CIFAR-100, Python version", "cifar-100-python", ("train",), ("test",), 100, True),
)  # fmt: skip


def read_cifar(*, path: str, labels: Literal["fine", "coarse"] = "fine") -> RawData:
    """Returns CIFAR-10 or CIFAR-100 from the files of their authors: the binary version, or the Python version.

    Pictures are uint8 [N, 3, 32, 32]. The files of the Python version are pickles: each instruction is looked at first,
    only what makes arrays of bytes, lists, dictionaries, texts and whole numbers is carried out, and nothing that the
    file names is ever called.

    Args:
        path: The folder with the files (``data_batch_1.bin`` ..., ``train.bin``, ``data_batch_1`` ..., ``train``), the
            folder above, or the ``.tar.gz`` as it is published, which is not unpacked to the disk.
        labels: `fine`: the 100 labels of CIFAR-100; `coarse`: its 20 groups. CIFAR-10 has only its 10.

    Raises:
        DataError: A file is missing, cut off or damaged, a label is out of its range, or a pickle asks for anything
            else.
        ValueError: `labels` is unknown.
    """
    faults = ArgumentFaults()
    faults.choice("labels", labels, ("fine", "coarse"))
    faults.raise_if_any()
    place = Path(path).expanduser()
    files, where = _find(place)
    version = _version(files, where)
    if labels == "coarse" and version.classes == 10:
        raise DataError(f"{where}: CIFAR-10 has no coarse labels; leave `labels` out")
    parts: dict[str, tuple[Array, Array]] = {}
    count = version.classes if labels == "fine" else 20
    for part, members in (("train", version.train), ("test", version.test)):
        read = [_read(files[name](), f"{where}/{name}", version, labels, count) for name in members]
        parts[part] = (np.concatenate([pixels for pixels, _ in read]), np.concatenate([found for _, found in read]))
    names, notes = _names(files, version, labels, count, where)
    for part, expected in _PUBLISHED_ROWS.items():
        found = len(parts[part][0])
        if found != expected:
            notes.append(f"the {part} set has {found:,} pictures; the published one has {expected:,}")
    splits = {part: Split(torch.from_numpy(pixels), torch.from_numpy(found)) for part, (pixels, found) in parts.items()}
    size = len(splits["train"])
    notes += repeat_notes(
        repeated_rows(parts["train"][0], parts["test"][0]),
        labels={"training": splits["train"].labels, "test": splits["test"].labels},
        shown=lambda *pair: " = ".join(f"train {row}" if row < size else f"test {row - size}" for row in pair),
    )
    which = f", {labels} labels" if version.classes == 100 else ""
    return RawData(
        train=splits["train"],
        test=splits["test"],
        names=require_names(names, count, str(where)),
        input_range=(0.0, 255.0),
        source=f"{version.title}{which}, in {where}",
        notes=tuple(notes),
    )


def published_version(place: Path) -> tuple[str, int] | None:
    """Returns title and number of classes of the CIFAR files at a place; None: no file is called like one of them.

    Raises:
        DataError: Some are there and others are missing, or an archive is damaged.
    """
    if place.is_file() and not place.name.lower().endswith((".tar.gz", ".tgz", ".tar")):
        return None
    try:
        files, where = _find(place)
    except DataError:
        if place.is_file():
            raise
        return None
    version = _version(files, where)
    return version.title, version.classes


def _find(place: Path) -> tuple[Files, Path]:
    """Returns the files there are to read, by name, and where they lie."""
    try:
        if place.is_file():
            return _of_archive(place), place
        if not place.is_dir():
            raise DataError(f"{place}: does not exist; expected the folder of CIFAR's files, or the .tar.gz of them")
        for folder in (place, *(place / version.folder for version in _VERSIONS)):
            if folder.is_dir():
                files = {entry.name: _reader_of(entry) for entry in folder.iterdir() if entry.is_file()}
                if any(name in files for version in _VERSIONS for name in (*version.train, *version.test)):
                    return files, folder
        seen = ", ".join(sorted(printable(entry.name) for entry in place.iterdir())[:8]) or "nothing"
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: cannot be read ({error})") from None
    raise DataError(
        f"{place}: holds no CIFAR files; expected data_batch_1.bin, train.bin, data_batch_1 or train and the like, "
        f"found {seen}"
    )


def _reader_of(file: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            if file.stat().st_size > _MAXIMUM_BYTES:
                raise DataError(f"{file}: has more than {_MAXIMUM_BYTES:,} bytes, which no CIFAR file has")
            return file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None

    return read


class _Limited:
    """Reads a stream that may unpack to very much: up to what CIFAR can have."""

    def __init__(self, stream: BinaryIO, file: Path) -> None:
        self._stream, self._file, self._left = stream, file, _MAXIMUM_BYTES

    def read(self, size: int) -> bytes:
        """Returns the next bytes."""
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DataError(f"{self._file}: unpacks to more than {_MAXIMUM_BYTES:,} bytes, which CIFAR does not")
        return content


def _of_archive(file: Path) -> Files:
    known = {name for version in _VERSIONS for name in (*version.train, *version.test, version.meta)}
    known |= {"batches.meta.txt", "fine_label_names.txt", "coarse_label_names.txt"}
    contents: dict[str, bytes] = {}
    try:
        with file.open("rb") as stored:
            unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=stored) if stored.read(2) == GZIP_MAGIC else stored)
            stored.seek(0)
            with tarfile.open(fileobj=cast(Any, _Limited(unpacked, file)), mode="r|") as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    stream = archive.extractfile(member) if member.isreg() and name in known else None
                    if stream is not None:
                        contents[name] = stream.read()
    except DataError:
        raise
    except Exception as error:  # tarfile, gzip and zlib each raise types of their own
        raise DataError(f"{file}: is no .tar.gz, cut off or damaged ({str(error)[:120]})") from None
    return {name: (lambda content=content: content) for name, content in contents.items()}  # type: ignore[misc]


def _version(files: Files, where: Path) -> _Version:
    begun = []
    for version in _VERSIONS:
        missing = [name for name in (*version.train, *version.test) if name not in files]
        if not missing:
            return version
        begun.append((len(missing) - len(version.train) - len(version.test), version, missing))
    fewest, version, missing = min(begun, key=lambda entry: entry[0])
    if fewest == 0:
        raise DataError(f"{where}: holds no CIFAR files; expected {version.train[0]} and the like")
    raise DataError(f"{where}: {version.title}: missing {', '.join(missing)}; fetch the files again")


def _read(content: bytes, where: str, version: _Version, labels: str, count: int) -> tuple[Array, Array]:
    """Returns the pictures [N, 3, 32, 32] and labels [N] of one file."""
    if version.pickled:
        pixels, found = _of_pickle(content, where, version, labels)
    else:
        ahead = 1 if version.classes == 10 else 2
        rows, rest = divmod(len(content), ahead + _PICTURE_BYTES)
        if rest or rows == 0:
            raise DataError(
                f"{where}: expected records of {ahead + _PICTURE_BYTES:,} bytes, found {len(content):,} bytes; the "
                "file is cut off or no CIFAR file"
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(rows, ahead + _PICTURE_BYTES)
        # CIFAR-100 has the coarse label first
        found = records[:, ahead - 1 if labels == "fine" else 0].astype(np.int64)
        pixels = records[:, ahead:].reshape(rows, *_PICTURE)
    fault = first_fault(found, lambda chunk: (chunk < 0) | (chunk >= count))
    if fault is not None:
        raise DataError(f"{where}: row {fault[0]} has the label {fault[1]}; expected 0 to {count - 1}")
    return pixels, found


def _of_pickle(content: bytes, where: str, version: _Version, labels: str) -> tuple[Array, Array]:
    loaded = _dictionary(content, where)
    key = "labels" if version.classes == 10 else f"{labels}_labels"
    pixels, found = arrays_of(loaded.get("data")), loaded.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != _PICTURE_BYTES or len(pixels) == 0:
        shape = f"an array {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataError(f"{where}: `data`: expected an array [N, {_PICTURE_BYTES}] of bytes, found {shape}")
    if not isinstance(found, list) or not all(type(label) is int for label in found) or len(found) != len(pixels):
        what = f"{len(found):,} values" if isinstance(found, list) else "none"
        raise DataError(f"{where}: `{key}`: expected {len(pixels):,} whole numbers, found {what}")
    # numbers beyond int64 are out of range as well
    limited = [min(max(label, -1), 2**31) for label in found]
    return pixels.reshape(-1, *_PICTURE), np.array(limited, dtype=np.int64)


def _dictionary(content: bytes, where: str) -> dict[str, Any]:
    loaded = restricted_load(content, where)
    if not isinstance(loaded, dict):
        raise DataError(f"{where}: expected a dictionary, found {type(loaded).__name__}")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in loaded.items()}


def _names(files: Files, version: _Version, labels: str, count: int, where: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the labels, and what to say where the file with them is missing."""
    if version.pickled:
        if version.meta in files:
            key = "label_names" if version.classes == 10 else f"{labels}_label_names"
            found = _dictionary(files[version.meta](), f"{where}/{version.meta}").get(key)
            if not isinstance(found, list) or not all(isinstance(name, bytes | str) for name in found):
                raise DataError(f"{where}/{version.meta}: `{key}`: expected a list of texts")
            return [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in found], []
    else:
        file = "batches.meta.txt" if version.classes == 10 else f"{labels}_label_names.txt"
        if file in files:
            return files[file]().decode("utf-8", "replace").split(), []
    if version.classes == 10:
        return list(CIFAR10_NAMES), []
    note = "the file with the labels' names is missing: they are called by their numbers"
    return [str(number) for number in range(count)], [note]
