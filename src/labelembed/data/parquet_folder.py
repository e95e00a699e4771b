"""Folders of parquet files as the Hugging Face hub has them: pictures or vectors, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.batch import Split
from labelembed.data.checks import require_names
from labelembed.data.data_notes import label_column_note, repeat_notes, repeated_rows
from labelembed.data.dataset import RawData
from labelembed.data.files.parquet import Column, columns_of, find_shards, read_column
from labelembed.data.parquet_inputs import Features, read_pictures, read_vectors
from labelembed.data.picture_files import ReadingProgress
from labelembed.data.splits import NO_TEST_NOTE, validation_and_test
from labelembed.errors import ArgumentFaults, DataError, nearest

# Which of several plain columns holds the labels, where no class names say so.
_LABEL_WORDS = ("label", "labels", "fine_label", "class", "target")

Array = npt.NDArray[Any]


class ParquetFacts(NamedTuple):
    """What parquet files hold, seen without decoding a picture.

    Attributes:
        inputs: What one input is.
        counts: Examples by part: `train` and, where there are such, `validation` and `test`.
        classes: How many labels there are.
    """

    inputs: Literal["pictures", "vectors"]
    counts: dict[str, int]
    classes: int


def look_into_parquet(place: Path, *, labels: str | None = None) -> ParquetFacts | None:
    """Returns what the parquet files of a folder, or one file, hold; None where that is no pictures and no vectors.

    Vectors beside a column of texts are left to those who read texts.

    Args:
        place: The folder or the file.
        labels: See `read_parquet`.

    Raises:
        DataError: As `read_parquet`.
    """
    files, _ = find_shards(place)
    columns = columns_of(files["train"][0])
    pictures = [column for column in columns if _is_picture(column.type)]
    inputs = [*pictures, *(column for column in columns if _is_vector(column.type))]
    if not inputs:
        return None
    label, _ = _label_column(columns, labels, inputs[0], files["train"][0])
    if not pictures and any(_is_text(column.type) for column in columns if column != label):
        return None
    numbers, names = _labels(files, label, every_part=True)
    counts = {part: len(found) for part, found in numbers.items()}
    return ParquetFacts("pictures" if pictures else "vectors", counts, len(names))


def read_parquet(
    *,
    path: str,
    labels: str | None = None,
    inputs: str | None = None,
    names: list[str] | None = None,
    features: Features = "pixels",
    to_measure: bool = False,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns the data set of a folder of parquet files as the Hugging Face hub has them.

    The folder holds ``train.parquet`` or ``train-00000-of-00002.parquet`` and the like, the same with `test` and, if
    wanted, `validation`; where there is no test set, the validation set takes its place. One file is a training set
    without a test set.

    Inputs are pictures (a column of {bytes, path}, PNG, JPEG, WebP, ..., all of one size), which become uint8
    [N, C, H, W], or vectors (a column of lists of numbers, all of one length), which become float32 [N, F].
    Decoded pictures and their features are kept in ``~/.cache/labelembed`` (or the folder that the environment
    variable ``LABELEMBED_CACHE`` names) and found again by the content of the files.

    Args:
        path: The folder, or one parquet file.
        labels: Column of the labels; null: the first with class names, else the one named `label` or the like.
            CIFAR-100 has `fine_label` and `coarse_label`.
        inputs: Column of the pictures or vectors; null: the only one there is.
        names: Names of the labels in the order of their values, instead of those in the files.
        features: `pixels`: as they are. `gradient_histograms`: fixed features of pictures, 636 for 32 x 32 colour
            pixels; take `scaling: standard` with them.
        to_measure: The rows are for a finished run to measure: a folder needs no test set, and any label will do.
        progress: Called with (done, total) while the pictures of a split are decoded.

    Raises:
        DataError: A file is missing or damaged, a column cannot be found, a row cannot be used, or pyarrow is not
            installed (``pip install "labelembed[hub]"``).
        ValueError: `features` is unknown.
    """
    faults = ArgumentFaults()
    faults.choice("features", features, ("pixels", "gradient_histograms"))
    faults.raise_if_any()
    place = Path(path).expanduser()
    files, folder = find_shards(place)
    validation, test = validation_and_test(files)
    if not place.is_file() and not test and not to_measure:
        raise DataError(f"{folder}: has a training set but no test set; expected test.parquet and the like")
    columns = columns_of(files["train"][0])
    input_column = _input_column(columns, inputs, files["train"][0])
    label_column, is_guess = _label_column(columns, labels, input_column, files["train"][0])
    given = {"train": files["train"], "validation": validation, "test": test}
    shards = {split: paths for split, paths in given.items() if paths}
    numbers, found_names = _labels(shards, label_column, every_part=to_measure)
    notes = [NO_TEST_NOTE] if validation is None and "validation" in files else []
    if _is_vector(input_column.type):
        if features != "pixels":
            raise DataError(
                f"{folder}: column {input_column.name!r} holds vectors; `features: {features}` needs pictures"
            )
        arrays = {split: read_vectors(paths, input_column) for split, paths in shards.items()}
        _require_same_sizes(arrays, folder)
    else:
        arrays, said = read_pictures(shards, input_column, features, folder, progress)
        notes += said
    parts = {split: Split(torch.from_numpy(arrays[split]), torch.from_numpy(numbers[split])) for split in shards}
    all_names = require_names(names or found_names, len(found_names), str(folder))
    if is_guess:
        notes.append(label_column_note(label_column.name, parts["train"].labels, all_names, key="labels"))
    pixels = features == "pixels" and not _is_vector(input_column.type)
    if pixels and test:
        places = [f"{split} {row}" for split in shards for row in range(len(parts[split]))]
        notes += repeat_notes(
            repeated_rows(*arrays.values()),
            labels={"training" if split == "train" else split: part.labels for split, part in parts.items()},
            shown=lambda row, earlier: f"{places[row]} = {places[earlier]}",
        )
    return RawData(
        train=parts["train"],
        development=parts.get("validation"),
        test=parts.get("test"),
        names=all_names,
        input_range=(0.0, 255.0) if pixels else None,
        source=f"parquet files in {folder}",
        notes=tuple(notes),
    )


def _chosen(columns: Sequence[Column], name: str, key: str, file: Path) -> Column:
    for column in columns:
        if column.name == name:
            return column
    names = [column.name for column in columns]
    raise DataError(f"{file}: `{key}`: no column {name!r}{nearest(name, names)}; there are: {', '.join(names)}")


def _input_column(columns: Sequence[Column], name: str | None, file: Path) -> Column:
    usable = [column for column in columns if _is_picture(column.type) or _is_vector(column.type)]
    if name is not None:
        column = _chosen(columns, name, "inputs", file)
        if column not in usable:
            raise DataError(
                f"{file}: column {name!r} holds {column.type}; expected pictures ({{bytes, path}}) or lists of numbers"
            )
        return column
    if not usable:
        found = ", ".join(f"{column.name} ({column.type})" for column in columns[:8])
        raise DataError(f"{file}: no column holds pictures ({{bytes, path}}) or lists of numbers; there are: {found}")
    if len(usable) > 1:
        raise DataError(
            f"{file}: several columns can be the inputs; choose one by `inputs`: "
            + ", ".join(column.name for column in usable)
        )
    return usable[0]


def _label_column(columns: Sequence[Column], name: str | None, inputs: Column, file: Path) -> tuple[Column, bool]:
    """Returns the column of the labels, and whether it was chosen of several that could be."""
    usable = [column for column in columns if column != inputs and _is_label(column.type)]
    if name is not None:
        column = _chosen(columns, name, "labels", file)
        if column not in usable:
            raise DataError(f"{file}: column {name!r} holds {column.type}; labels are whole numbers or texts")
        return column, False
    with_names = [column for column in usable if isinstance(column.noted.get("names"), list)]
    with_words = [column for word in _LABEL_WORDS for column in usable if column.name.lower() == word]
    found = with_names[:1] or with_words[:1] or usable
    if len(found) == 1:
        return found[0], len(usable) > 1
    which = "none" if not usable else "one of " + ", ".join(column.name for column in usable)
    raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({which})")


def _is_picture(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _is_binary(field.type) for field in kind)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_vector(kind: Any) -> bool:
    import pyarrow.types as types

    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type)))


def _is_label(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or _is_text(kind) or types.is_boolean(kind))


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _labels(
    shards: Mapping[str, list[Path]], column: Column, *, every_part: bool = False
) -> tuple[dict[str, Array], list[str]]:
    """Returns the labels [N] of each split, int64 from 0, and their names: of the training set, or of every part."""
    values: dict[str, list[tuple[Path, Array]]] = {}
    for split, files in shards.items():
        values[split] = []
        for file, chunks in zip(files, read_column(files, column), strict=True):
            found: Array = np.array(chunks.to_pylist(), dtype=object)
            missing = np.array([value is None for value in found], dtype=bool)
            if missing.any():
                raise DataError(f"{file}: row {int(missing.argmax())} has no label in column {column.name!r}")
            values[split].append((file, found))
    noted = column.noted.get("names")
    if isinstance(noted, list) and noted and all(isinstance(name, str) for name in noted):
        known: dict[Any, int] = {number: number for number in range(len(noted))}
        names, why = noted, f"0 to {len(noted) - 1}, for there are {len(noted)} class names"
    else:
        of = [part for split in values for part in values[split]] if every_part else values["train"]
        seen = sorted({value for _, found in of for value in found})
        if len(seen) == 0:
            raise DataError(f"{shards['train'][0]}: has no rows")
        known = {value: number for number, value in enumerate(seen)}
        names, why = [str(value) for value in seen], f"one of the {len(seen)} labels of the training set"
    numbered = {}
    for split, parts in values.items():
        for file, found in parts:
            wrong = np.array([value not in known for value in found], dtype=bool)
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"{file}: row {row} has the label {found[row]!r:.80} in column {column.name!r}; expected {why}"
                )
        numbered[split] = np.array([known[value] for _, found in parts for value in found], dtype=np.int64)
    return numbered, names


def _require_same_sizes(arrays: Mapping[str, Array], folder: Path) -> None:
    for split, array in arrays.items():
        if array.shape[1] != arrays["train"].shape[1]:
            raise DataError(
                f"{folder}: the {split} set has vectors of {array.shape[1]:,} numbers, the training set of "
                f"{arrays['train'].shape[1]:,}"
            )
