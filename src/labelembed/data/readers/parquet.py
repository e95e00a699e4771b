"""Folders of parquet files as the Hugging Face hub has them: pictures or vectors, and their labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labelembed.data.batch import Split
from labelembed.data.cache import file_digest
from labelembed.data.checks import require_names
from labelembed.data.data_notes import label_column_note
from labelembed.data.dataset import RawData
from labelembed.data.encoders.pictures import ReadingProgress
from labelembed.data.files.parquet import Column, columns_of, find_shards, read_column, require_column
from labelembed.data.files.picture import Fit, ImageSize
from labelembed.data.readers.parquet_columns import (
    input_column,
    is_picture,
    is_text,
    is_vector,
    label_column,
    read_labels,
    read_vectors,
    require_same_sizes,
)
from labelembed.data.readers.picture_data import Features, Listing, PictureReading, read_listing
from labelembed.data.splits import NO_TEST_NOTE, validation_and_test, with_test
from labelembed.errors import DataError

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


class PictureColumn:
    """Pictures in a column of parquet files; a place is a file and the number of the row in it.

    Args:
        column: Which.
    """

    def __init__(self, column: Column) -> None:
        self._column = column
        self._values = cache(self._read)

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
        return f"{self._column.name} {runs}"

    def _read(self, file: Path) -> Any:
        return read_column([file], self._column)[0]


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
    pictures = [column for column in columns if is_picture(column.type)]
    inputs = [*pictures, *(column for column in columns if is_vector(column.type))]
    if not inputs:
        return None
    label, _ = label_column(columns, labels, inputs[0], files["train"][0])
    if not pictures and any(is_text(column.type) for column in columns if column != label):
        return None
    numbers, names = read_labels(files, label, every_part=True)
    counts = {part: sum(map(len, found)) for part, found in numbers.items()}
    return ParquetFacts("pictures" if pictures else "vectors", counts, len(names))


def read_parquet(
    *,
    path: str,
    labels: str | None = None,
    inputs: str | None = None,
    names: list[str] | None = None,
    features: Features = "pixels",
    image_size: ImageSize = None,
    fit: Fit = "crop",
    test_fraction: float | None = None,
    skip_unreadable: bool = False,
    to_measure: bool = False,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns the data set of a folder of parquet files as the Hugging Face hub has them.

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
        image_size: Height and width that pictures are brought to; auto: the median of the training pictures' shorter
            sides, but 16 to 64; null: they all have one size.
        fit: Where their proportions are others: `crop`, the middle; `stretch`; `pad`, black borders.
        test_fraction: Part of the examples that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the data.
        to_measure: The rows are for a finished run to measure: none are held out for a test, and any label will do.
        progress: Called with (done, total) while pictures are decoded.

    Raises:
        DataError: A file is missing or damaged, a column cannot be found, a row cannot be used, or pyarrow is not
            installed (``pip install "labelembed[hub]"``).
        ValueError: An argument is out of its range.
    """
    how = PictureReading(
        image_size=image_size,
        fit=fit,
        features=features,
        test_fraction=test_fraction,
        skip_unreadable=skip_unreadable,
        to_measure=to_measure,
        progress=progress,
    )
    how.faults().raise_if_any()
    files, folder = find_shards(Path(path).expanduser())
    first = files["train"][0]
    columns = columns_of(first)
    input_of = input_column(columns, inputs, first)
    label_of, is_guess = label_column(columns, labels, input_of, first)
    numbers, found_names = read_labels(files, label_of, every_part=to_measure)
    label_names = require_names(names or found_names, len(found_names), str(folder))
    source = f"parquet files in {folder}"
    if is_vector(input_of.type):
        if features != "pixels":
            raise DataError(f"{folder}: column {input_of.name!r} holds vectors; `features: {features}` needs pictures")
        arrays = {part: read_vectors(shards, input_of) for part, shards in files.items()}
        require_same_sizes(arrays, folder)
        splits = {
            part: Split(torch.from_numpy(arrays[part]), torch.from_numpy(np.concatenate(numbers[part])))
            for part in files
        }
        validation, test = validation_and_test(splits)
        notes = [NO_TEST_NOTE] if validation is None and "validation" in files else []
        if is_guess:
            notes.append(label_column_note(label_of.name, splits["train"].labels, label_names, key="labels"))
        raw = RawData(
            train=splits["train"],
            validation=validation,
            test=test,
            names=label_names,
            input_range=None,
            source=source,
            notes=tuple(notes),
        )
        return raw if to_measure else with_test(raw, test_fraction)
    parts = {
        part: [
            ((file, row), label_names[number])
            for file, of_file in zip(shards, numbers[part], strict=True)
            for row, number in enumerate(of_file.tolist())
        ]
        for part, shards in files.items()
    }
    for part, shards in files.items():
        require_column(shards, input_of)
        if not parts[part]:
            raise DataError(f"{shards[0]}: has no rows")
    listing = Listing(
        parts=parts,
        pictures=PictureColumn(input_of),
        where=str(folder),
        source=source,
        names=label_names,
        found_labels=label_of.name if is_guess else None,
    )
    return read_listing(listing, how)
