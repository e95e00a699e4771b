"""Lists of pictures with their labels: CSV, TSV, JSON lines or parquet, with a column of paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.dataset import RawData
from labelembed.data.files.parts import Reading, read_file
from labelembed.data.files.table import Table, missing_column
from labelembed.data.image_folder import PICTURE_SUFFIXES
from labelembed.data.listing import Listing, check_arguments, read_listing
from labelembed.data.picture_files import ReadingProgress
from labelembed.data.picture_fitting import Fit, ImageSize
from labelembed.data.splits import NO_TEST_NOTE, PARTS, validation_and_test
from labelembed.errors import DataError

_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LABEL_WORDS = ("label", "labels", "class", "class_name", "category", "target", "y")
_SPLIT_WORDS = ("split", "set", "subset", "partition")


def read_manifest(
    *,
    path: str,
    paths: str | None = None,
    labels: str | None = None,
    split: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    image_size: ImageSize = None,
    fit: Fit = "crop",
    test_fraction: float | None = None,
    skip_unreadable: bool = False,
    to_measure: bool = False,
    progress: ReadingProgress | None = None,
) -> RawData:
    """Returns the data set of a list of picture files: CSV or TSV with a heading, JSON lines, or parquet.

    Paths in it are relative to its folder. A column of parts (`train`, `val`, `test`) says which pictures are the
    validation set and which the test set; without a test set the validation set takes its place, and without both
    `test_fraction` of the pictures does.
    Pictures are read as the reader `images` does.

    Args:
        path: The list.
        paths: Column of the paths; null: the one named `path`, `file_name`, `image` or the like, or the only one whose
            values end as pictures do.
        labels: Column of the labels, texts or whole numbers; null: the one named `label`, `class` or the like.
        split: Column of the parts; null: the one named `split`, `set`, `subset` or `partition`, if any.
        delimiter: Between the cells of a CSV file; null: found.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        image_size: Height and width that pictures are brought to; auto: the median of the training pictures' shorter
            sides, but 16 to 64; null: they all have one size.
        fit: Where their proportions are others: `crop`, the middle; `stretch`; `pad`, black borders.
        test_fraction: Part of the pictures that becomes the test set where there is none; null: 0.2.
        skip_unreadable: Leave out pictures that cannot be read, with a note, instead of refusing the list.
        to_measure: The pictures are for a finished run to measure: none are held out for a test, and any label will do.
        progress: Called with (done, total) while pictures are decoded.

    Raises:
        DataError: The list cannot be read, a column cannot be found, a row is incomplete, or the pictures cannot be
            used (see the reader `images`).
        ValueError: An argument is out of its range.
    """
    reading = Reading(delimiter=delimiter, encoding=encoding)
    faults = reading.faults()
    faults.choice("fit", fit, ("crop", "stretch", "pad"))
    faults.raise_if_any()
    check_arguments(image_size=image_size, test_fraction=test_fraction)
    listing = read_list(
        Path(path).expanduser(), reading=reading, paths=paths, labels=labels, split=split, to_measure=to_measure
    )
    return read_listing(
        listing,
        image_size=image_size,
        fit=fit,
        test_fraction=test_fraction,
        skip_unreadable=skip_unreadable,
        to_measure=to_measure,
        progress=progress,
    )


def read_list(
    file: Path, *, reading: Reading, paths: str | None, labels: str | None, split: str | None, to_measure: bool = False
) -> Listing:
    """Returns the pictures a list names; see `read_manifest`.

    Raises:
        DataError: The list cannot be used; names file and row.
    """
    table = read_file(file, reading)
    path_column = _chosen(table, "paths", paths, _PATH_WORDS) or _by_endings(table)
    if path_column is None:
        raise DataError(f"{file}: which column holds the paths is unclear; name it by `paths` ({table.listed()})")
    label_column = _chosen(table, "labels", labels, _LABEL_WORDS)
    if label_column is None:
        raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({table.listed()})")
    if to_measure and split not in table.names:
        split = None
    split_column = _chosen(table, "split", split, _SPLIT_WORDS)
    if path_column == label_column:
        raise DataError(
            f"{file}: column {path_column!r} cannot hold both paths and labels; name them by `paths` and `labels`"
        )
    found: dict[str, list[tuple[Path, str]]] = {}
    parts = ["train"] * len(table) if split_column is None else table.values(split_column)
    for row, values in enumerate(zip(table.values(path_column), table.values(label_column), parts, strict=True)):
        where = f"{file}: {table.place(row)}"
        name, label, value = map(_text, values)
        if not name.strip() or "\0" in name:
            raise DataError(f"{where} has no path in column {path_column!r}")
        if not label.strip():
            raise DataError(f"{where} has no label (a text or a whole number) in column {label_column!r}")
        part = PARTS.get(value.strip().lower())
        if part is None:
            raise DataError(f"{where} has {value!r:.60} in column {split_column!r}; expected {', '.join(PARTS)}")
        found.setdefault(part, []).append((file.parent / name.strip(), label.strip()))
    if "train" not in found and to_measure:
        found = {"train": [entry for entries in found.values() for entry in entries]}
    if "train" not in found:
        raise DataError(f"{file}: has no training row in column {split_column!r}")
    validation, test = validation_and_test(found)
    others = set(table.names) - {path_column, label_column, split_column}
    return Listing(
        root=file.parent,
        train=found["train"],
        validation=validation,
        test=test,
        source=f"pictures listed in {file}",
        found_labels=label_column if labels is None and others else None,
        notes=(NO_TEST_NOTE,) if "validation" in found and "test" not in found else (),
    )


def _chosen(table: Table, key: str, name: str | None, words: Sequence[str]) -> str | None:
    if name is not None and name not in table.names:
        raise DataError(missing_column(table, key, name))
    return name or next((column for word in words for column in table.names if column.strip().lower() == word), None)


def _by_endings(table: Table) -> str | None:
    """Returns the only column in which every value ends as a picture's name does."""
    found = [
        column
        for column in table.names
        if all(Path(_text(value)).suffix.lower() in PICTURE_SUFFIXES for value in table.values(column))
    ]
    return found[0] if len(found) == 1 else None


def _text(value: Any) -> str:
    """Returns a text or a whole number as text; an empty text for what is neither."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():  # as pandas has whole numbers where one is missing
        value = int(value)
    try:
        return str(value) if isinstance(value, str | int) else ""
    except ValueError:  # Python refuses to write out a number of very many digits
        return ""
