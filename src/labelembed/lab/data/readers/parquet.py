"""Pictures or vectors in a column of parquet files, as the Hugging Face hub has them, or of a saved data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from labelembed.errors import ArgumentErrors, DataError, nearest
from labelembed.lab.data.batch import Examples, Split
from labelembed.lab.data.cache import file_digest
from labelembed.lab.data.checks import require_finite, require_names
from labelembed.lab.data.columns import find_label
from labelembed.lab.data.data_notes import label_column_note
from labelembed.lab.data.dataset import RawData
from labelembed.lab.data.encoder import ReadingProgress
from labelembed.lab.data.readers.pictures import Features, LabelledPictures, PictureReader, Places, labelled_rows
from labelembed.lab.data.splits import assigned
from labelembed.lab.data.table_files import Reading, Table, read_columns
from labelembed.lab.data.tables import Parts, read_parts

_INPUTS = ("bytes", "vectors")
_LOOKED_AT = 2_000

Array = npt.NDArray[Any]
_Place = tuple[Path, int]


class InputColumn:
    """Pictures or vectors in a column of parquet or arrow files; a place is a file and the number of the example in it.

    Args:
        name: Which.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        # the files are read one after the other, and all at once may be more than the memory holds
        self._values = lru_cache(maxsize=2)(lambda file: read_columns(file, [name]).column(0))

    def content(self, place: _Place) -> bytes:
        """Returns the bytes of a picture."""
        value = self._values(place[0])[place[1]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise DataError("has no picture in it (a path alone cannot be read)")
        return bytes(content)

    def shown(self, place: _Place) -> str:
        """Returns file and row."""
        return f"{place[0].name} row {place[1]}"

    def digest(self, places: Sequence[_Place]) -> str:
        """Returns the SHA-256 of the files' contents, and which rows of which."""
        files = {file: file_digest(file) for file in dict.fromkeys(file for file, _ in places)}
        runs: list[list[Any]] = []  # digest, first row, last row
        for file, row in places:
            if runs and runs[-1][0] == files[file] and runs[-1][2] == row - 1:
                runs[-1][2] = row
            else:
                runs.append([files[file], row, row])
        return f"{self.name} {runs}"

    def vectors(self, places: Sequence[_Place]) -> Tensor:
        """Returns vectors [N, F], float32, one after the other as they stand in the files.

        Raises:
            DataError: They have several lengths, or one holds something else than finite numbers.
        """
        rows_of: dict[Path, list[int]] = {}
        for file, row in places:
            rows_of.setdefault(file, []).append(row)
        arrays: list[Array] = []
        for file, rows in rows_of.items():
            width = arrays[0].shape[1] if arrays else None
            values = self._vectors_of(file, width)
            arrays.append(values if len(rows) == len(values) else values[rows])
        return torch.from_numpy(np.concatenate(arrays))

    def _vectors_of(self, file: Path, width: int | None) -> Array:
        import pyarrow.compute as compute

        where = f"{file}: column {self.name!r}"
        chunks = self._values(file)
        lengths = compute.list_value_length(chunks).to_numpy()
        width = width or next((int(length) for length in lengths if length > 0), 1)
        wrong = np.asarray(lengths != width)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(f"{where}: row {row} has {lengths[row]} numbers; expected {width}, as the first row has")
        flat = compute.list_flatten(chunks)
        if flat.null_count:
            raise DataError(f"{where}: row {int(np.asarray(flat.is_null()).argmax()) // width} has a number missing")
        values: Array = flat.to_numpy().reshape(len(lengths), width)
        require_finite(values, where)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        require_finite(values, f"{where} as float32")
        return values


@dataclass(frozen=True, kw_only=True)
class ParquetReader(PictureReader):
    """Pictures or vectors of a folder of parquet files as the Hugging Face hub has them, or of a saved data set.

    The folder holds ``train.parquet`` or ``train-00000-of-00002.parquet`` and the like, the same with `test` and, if
    wanted, `validation`; where there is no test set, the validation set takes its place. One file is a training set
    without a test set, of which `test_fraction` becomes one.

    Inputs are pictures (a column of {bytes, path}, PNG, JPEG, WebP, ...), which are read as the reader `images` reads
    files, or vectors (a column of lists of numbers, all of one length), which become float32 [N, F].

    Args:
        path: The folder, or one parquet file.
        labels: Column of the labels; null: found by its name, by class names in the file, or by what stands in it.
            CIFAR-100 has `fine_label` and `coarse_label`.
        inputs: Column of the pictures or vectors; null: the only one there is.
        names: Names of the labels in the order of their values, instead of those in the files.
        features: `pixels`: as they are. `gradient_histograms`: fixed features of pictures, 636 for 32 x 32 colour
            pixels; take `scaling: standard` with them.

    Raises:
        ValueError: An argument is out of its range.
    """

    labels: str | None = None
    inputs: str | None = None
    names: list[str] | None = None
    features: Features = "pixels"

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        errors.choice("features", self.features, ("pixels", "gradient_histograms"))
        return errors

    def find(self, *, to_evaluate: bool = False) -> LabelledPictures:
        """Returns the pictures or vectors with their labels, before any is decoded.

        Raises:
            DataError: A file is missing or damaged, a column cannot be told, or pyarrow is not installed
                (``pip install "labelembed[hub]"``).
        """
        return self._of(self._tables(to_evaluate), to_evaluate=to_evaluate)[0]

    def read(self, *, to_evaluate: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set; `find` says what is refused, and so is an example that cannot be used."""
        tables = self._tables(to_evaluate)
        found, column = self._of(tables, to_evaluate=to_evaluate)
        if tables["train"].left_aside[column.name] == "bytes":
            raw = self.decoded(found, to_evaluate=to_evaluate, progress=progress, features=self.features)
            return raw if to_evaluate else raw.renamed(self.names)
        if self.features != "pixels":
            raise DataError(
                f"{found.where}: column {column.name!r} holds vectors; `features: {self.features}` needs pictures"
            )
        splits = {part: Split(column.vectors(rows.inputs), rows.labels) for part, rows in found.parts.items()}
        lengths = {part: split.inputs.shape[1] for part, split in splits.items()}
        for part, length in lengths.items():
            if length != lengths["train"]:
                wanted = f"the training set of {lengths['train']:,}"
                raise DataError(f"{found.where}: the {part} set has vectors of {length:,} numbers, {wanted}")
        notes = list(found.notes)
        if found.found_labels is not None:
            notes.append(label_column_note(found.found_labels, splits["train"].labels, found.names, key="labels"))
        parts, more = assigned(splits, self.test_fraction, source=found.source, to_evaluate=to_evaluate)
        raw = RawData(
            parts=parts,
            names=found.names,
            source=found.source,
            notes=(*notes, *more),
            label_column=found.label_column,
        )
        return raw if to_evaluate else raw.renamed(self.names)

    def _tables(self, to_evaluate: bool) -> Parts:
        return read_parts(Path(self.path).expanduser(), Reading(), to_evaluate=to_evaluate)

    def _of(self, tables: Parts, *, to_evaluate: bool) -> tuple[LabelledPictures, InputColumn]:
        place = Path(self.path).expanduser()
        folder = place if place.is_dir() else place.parent
        column = InputColumn(_input_column(tables, self.inputs))
        train = tables["train"]
        label = find_label(train, self.labels, key="labels")
        found, names, notes = labelled_rows(tables, label, folder, to_evaluate=to_evaluate)
        pictures = LabelledPictures(
            parts={part: Examples(_places(rows.inputs), rows.labels) for part, rows in found.items()},
            names=require_names(names, None, str(folder)),
            pictures=column,
            where=str(folder),
            source=f"parquet files in {folder}",
            notes=tuple(notes),
            label_column=label,
            found_labels=label if self.labels is None and len(train.names) > 1 else None,
        )
        return pictures, column


def _places(table: Table) -> Places:
    return Places(table.places)


def _input_column(tables: Parts, name: str | None) -> str:
    """Returns the column of the inputs: the one named, or the only one of pictures or vectors."""
    train = tables["train"]
    usable = [column for column, kind in train.left_aside.items() if kind in _INPUTS]
    if name is None and len(usable) > 1:
        several = f"several columns can be the inputs; choose one by `inputs`: {', '.join(usable)}"
        raise DataError(f"{train.source}: {several}")
    found = next(iter(usable), None) if name is None else name
    if found not in usable:
        what = "no column" if name is None else f"`inputs`: {name!r}{nearest(name, usable)} is no column that"
        raise DataError(
            f"{train.source}: {what} holds pictures ({{bytes, path}}) or lists of numbers; there are: {train.listed()}"
        )
    for table in tables.values():
        if table.left_aside.get(found) != train.left_aside[found]:
            held = table.left_aside.get(found, "something else" if found in table.names else "nothing")
            raise DataError(
                f"{table.source}: column {found!r} holds {held}; in the training set {train.left_aside[found]}"
            )
    return found
