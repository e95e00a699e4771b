"""Parquet files as the Hugging Face hub has them: pictures or vectors, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.batch import Examples, Split
from labelembed.data.cache import file_digest
from labelembed.data.checks import require_finite, require_names
from labelembed.data.data_notes import label_column_note
from labelembed.data.dataset import RawData
from labelembed.data.encoder import ReadingProgress
from labelembed.data.files.labels import LabelReading, labelled
from labelembed.data.files.parquet import (
    Shards,
    features_of,
    find_shards,
    kind_of,
    read_columns,
    read_parquet_table,
    require_column,
    schema_of,
)
from labelembed.data.readers.pictures import Features, LabelledPictures, PictureReader, Places
from labelembed.data.splits import assigned
from labelembed.errors import ArgumentFaults, DataError, nearest

# Which of several plain columns holds the labels, where no class names say so.
_LABEL_WORDS = ("label", "labels", "fine_label", "class", "target")

_INPUTS, _LABELS = ("bytes", "vectors"), ("texts", "whole numbers")

Array = npt.NDArray[Any]


class FoundColumns(NamedTuple):
    """The files of a data set, its columns of inputs and labels, and the labels.

    Attributes:
        shards: The files by part.
        inputs: The column of the pictures or vectors, a ``pyarrow.Field``.
        label: That of the labels.
        is_guess: Whether others could hold the labels.
        parts: Examples by part: tables without a column, which know where each stands.
        names: Names of the labels.
        notes: What the user should know.
    """

    shards: Shards
    inputs: Any
    label: Any
    is_guess: bool
    parts: dict[str, Examples]
    names: tuple[str, ...]
    notes: list[str]

    @property
    def kind(self) -> str:
        """`bytes`: pictures; or `vectors`."""
        return kind_of(self.inputs.type)


class PictureColumn:
    """Pictures in a column of parquet files; a place is a file and the number of the example in it.

    Args:
        name: Which.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._values = cache(lambda file: read_columns(file, [name]).column(0))

    def content(self, place: tuple[Path, int]) -> bytes:
        """Returns the bytes of a picture."""
        value = self._values(place[0])[place[1]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not content:
            raise DataError("has no picture in it (a path alone cannot be read)")
        return bytes(content)

    def shown(self, place: tuple[Path, int]) -> str:
        """Returns file and row."""
        return f"{place[0].name} row {place[1]}"

    def digest(self, places: Sequence[tuple[Path, int]]) -> str:
        """Returns the SHA-256 of the files' contents, and which rows of which."""
        files = {file: file_digest(file) for file in dict.fromkeys(file for file, _ in places)}
        runs: list[list[Any]] = []  # digest, first row, last row
        for file, row in places:
            if runs and runs[-1][0] == files[file] and runs[-1][2] == row - 1:
                runs[-1][2] = row
            else:
                runs.append([files[file], row, row])
        return f"{self._name} {runs}"


@dataclass(frozen=True, kw_only=True)
class ParquetReader(PictureReader):
    """Pictures or vectors of a folder of parquet files as the Hugging Face hub has them.

    The folder holds ``train.parquet`` or ``train-00000-of-00002.parquet`` and the like, the same with `test` and, if
    wanted, `validation`; where there is no test set, the validation set takes its place. One file is a training set
    without a test set, of which `test_fraction` becomes one.

    Inputs are pictures (a column of {bytes, path}, PNG, JPEG, WebP, ...), which are read as the reader `images` reads
    files, or vectors (a column of lists of numbers, all of one length), which become float32 [N, F].

    Args:
        path: The folder, or one parquet file.
        labels: Column of the labels; null: the first with class names, else the one named `label` or the like.
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

    def faults(self) -> ArgumentFaults:
        """Returns what is wrong with the arguments."""
        faults = super().faults()
        faults.choice("features", self.features, ("pixels", "gradient_histograms"))
        return faults

    def look(self) -> FoundColumns | None:
        """Returns what the files hold, pictures first; None where that is no pictures and no vectors.

        Vectors beside a column of texts are left to those who read texts.

        Raises:
            DataError: As `read`.
        """
        fields = list(schema_of(find_shards(self._place)["train"][0]))
        inputs = sorted((field for field in fields if kind_of(field.type) in _INPUTS), key=lambda f: kind_of(f.type))
        if not inputs:
            return None
        found = self._find(to_measure=True, inputs=inputs[0])
        texts = [field for field in fields if kind_of(field.type) == "texts" and field != found.label]
        return None if found.kind == "vectors" and texts else found

    def read(self, *, to_measure: bool = False, progress: ReadingProgress | None = None) -> RawData:
        """Returns the data set.

        Raises:
            DataError: A file is missing or damaged, a column cannot be found, an example cannot be used, or pyarrow is
                not installed (``pip install "labelembed[hub]"``).
        """
        found = self._find(to_measure=to_measure)
        folder = self._folder
        names = require_names(self.names or found.names, len(found.names), str(folder))
        source = f"parquet files in {folder}"
        if found.kind == "bytes":
            for shards in found.shards.values():
                require_column(shards, found.inputs)
            pictures = LabelledPictures(
                parts={
                    part: Examples(Places(_places(examples, found.shards[part])), examples.labels)
                    for part, examples in found.parts.items()
                },
                names=names,
                pictures=PictureColumn(found.inputs.name),
                where=str(folder),
                source=source,
                notes=tuple(found.notes),
                found_labels=found.label.name if found.is_guess else None,
            )
            return self._decoded(pictures, to_measure=to_measure, progress=progress, features=self.features)
        if self.features != "pixels":
            raise DataError(
                f"{folder}: column {found.inputs.name!r} holds vectors; `features: {self.features}` needs pictures"
            )
        arrays = {part: _vectors(found.shards[part], found.inputs) for part in found.parts}
        _require_same_sizes(arrays, folder)
        splits = {
            part: Split(torch.from_numpy(arrays[part]), examples.labels) for part, examples in found.parts.items()
        }
        parts: dict[str, Any]
        parts, notes = assigned(splits, self.test_fraction, source=source, to_measure=to_measure)
        if found.is_guess:
            found.notes.append(label_column_note(found.label.name, splits["train"].labels, names, key="labels"))
        return RawData(**parts, names=names, source=source, notes=(*found.notes, *notes))

    @property
    def _place(self) -> Path:
        return Path(self.path).expanduser()

    @property
    def _folder(self) -> Path:
        return self._place if self._place.is_dir() else self._place.parent

    def _find(self, *, to_measure: bool, inputs: Any = None) -> FoundColumns:
        shards = find_shards(self._place)
        first = shards["train"][0]
        fields = list(schema_of(first))
        inputs = inputs or _input_column(fields, self.inputs, first)
        label, is_guess = _label_column(fields, self.labels, inputs, first)
        for files in shards.values():
            require_column(files, label)
        tables = {
            part: read_parquet_table(files, files[0] if len(files) == 1 else self._folder, [label.name])
            for part, files in shards.items()
        }
        how = LabelReading(key="labels", merge=False, skip_incomplete=None, to_measure=to_measure)
        parts, names, notes = labelled(tables, label.name, how, self._folder)
        return FoundColumns(shards, inputs, label, is_guess, parts, names, notes)


def _places(examples: Examples, shards: Sequence[Path]) -> list[tuple[Path, int]]:
    """Returns file and number of each example."""
    return [place if isinstance(place, tuple) else (shards[0], place) for place in examples.inputs.places]


def _chosen(fields: Sequence[Any], name: str, key: str, file: Path) -> Any:
    found = next((field for field in fields if field.name == name), None)
    if found is None:
        names = [field.name for field in fields]
        raise DataError(f"{file}: `{key}`: no column {name!r}{nearest(name, names)}; there are: {', '.join(names)}")
    return found


def _input_column(fields: Sequence[Any], name: str | None, file: Path) -> Any:
    """Returns the column of the inputs: the one named, or the only one of pictures or vectors."""
    usable = [field for field in fields if kind_of(field.type) in _INPUTS]
    if name is not None:
        found = _chosen(fields, name, "inputs", file)
        if found not in usable:
            raise DataError(
                f"{file}: column {name!r} holds {found.type}; expected pictures ({{bytes, path}}) or lists of numbers"
            )
        return found
    if not usable:
        shown = ", ".join(f"{field.name} ({field.type})" for field in fields[:8])
        raise DataError(f"{file}: no column holds pictures ({{bytes, path}}) or lists of numbers; there are: {shown}")
    if len(usable) > 1:
        raise DataError(
            f"{file}: several columns can be the inputs; choose one by `inputs`: "
            + ", ".join(field.name for field in usable)
        )
    return usable[0]


def _label_column(fields: Sequence[Any], name: str | None, inputs: Any, file: Path) -> tuple[Any, bool]:
    """Returns the column of the labels, and whether it was chosen of several that could be."""
    usable = [field for field in fields if field != inputs and kind_of(field.type) in _LABELS]
    if name is not None:
        found = _chosen(fields, name, "labels", file)
        if found not in usable:
            raise DataError(f"{file}: column {name!r} holds {found.type}; labels are whole numbers or texts")
        return found, False
    features = features_of(schema_of(file))
    named = [field for field in usable if isinstance(features.get(field.name, {}).get("names"), list)]
    worded = [field for word in _LABEL_WORDS for field in usable if field.name.lower() == word]
    candidates = named[:1] or worded[:1] or usable
    if len(candidates) == 1:
        return candidates[0], len(usable) > 1
    which = "none" if not usable else "one of " + ", ".join(field.name for field in usable)
    raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({which})")


def _vectors(files: Sequence[Path], field: Any) -> Array:
    """Returns the vectors [N, F] of a column of lists of numbers, float32.

    Raises:
        DataError: A file or an example cannot be used.
    """
    import pyarrow.compute as compute

    require_column(files, field)
    parts: list[Array] = []
    width: int | None = None
    for file in files:
        chunks = read_columns(file, [field.name]).column(0)
        lengths = compute.list_value_length(chunks).to_numpy()
        if len(lengths) == 0:
            continue
        width = int(lengths[0]) if width is None and lengths[0] == lengths[0] else width
        wrong = np.asarray(lengths != (width or 0)) | (lengths == 0)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{file}: row {row} of column {field.name!r} has {lengths[row]} numbers; expected {width or 'some'}, "
                "as the first row has"
            )
        flat = compute.list_flatten(chunks)
        where = f"{file}: column {field.name!r}"
        if flat.null_count:
            row = int(np.asarray(flat.is_null()).argmax()) // (width or 1)
            raise DataError(f"{where}: row {row} has a number missing")
        values = flat.to_numpy().reshape(len(lengths), width or 0)
        require_finite(values, where)
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        require_finite(values, f"{where} as float32")
        parts.append(values)
    return np.concatenate(parts)


def _require_same_sizes(arrays: Mapping[str, Array], folder: Path) -> None:
    """Raises DataError where a part has vectors of another length than the training set."""
    for part, array in arrays.items():
        if array.shape[1] != arrays["train"].shape[1]:
            raise DataError(
                f"{folder}: the {part} set has vectors of {array.shape[1]:,} numbers, the training set of "
                f"{arrays['train'].shape[1]:,}"
            )
