"""Lists of picture files with their labels: CSV, TSV, JSON lines or parquet, with a column of paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.encoders.pictures import PictureFolder
from labelembed.data.files.parts import Reading, read_file
from labelembed.data.files.picture import PICTURE_SUFFIXES
from labelembed.data.files.table import Table, missing_column
from labelembed.data.readers.picture_data import Entry, Listing
from labelembed.data.splits import PARTS
from labelembed.errors import DataError

_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LABEL_WORDS = ("label", "labels", "class", "class_name", "category", "target", "y")
_SPLIT_WORDS = ("split", "set", "subset", "partition")


def read_list(
    file: Path, *, reading: Reading, paths: str | None, labels: str | None, split: str | None, to_measure: bool = False
) -> Listing:
    """Returns the pictures that a list names; see `read_images`.

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
    found: dict[str, list[Entry]] = {}
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
    others = set(table.names) - {path_column, label_column, split_column}
    return Listing(
        parts=found,
        pictures=PictureFolder(file.parent),
        where=str(file.parent),
        source=f"pictures listed in {file}",
        found_labels=label_column if labels is None and others else None,
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
