"""Lists of pictures with their labels: CSV, TSV, JSON lines or parquet, with a column of paths."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labelembed.data.checks import printable
from labelembed.data.dataset import RawData
from labelembed.data.image_folder import PICTURE_SUFFIXES
from labelembed.data.listing import Listing, check_arguments, read_listing
from labelembed.data.parquet_shards import columns_of, read_table_columns
from labelembed.data.part_names import NO_TEST_NOTE, PARTS, validation_and_test
from labelembed.data.picture_files import ReadingProgress
from labelembed.data.picture_fitting import Fit, ImageSize
from labelembed.data.streams import require_file
from labelembed.errors import ArgumentFaults, DataError, nearest

ACCEPTED = "a list of pictures: .csv, .tsv, .jsonl or .parquet"
_PATH_WORDS = ("path", "paths", "file", "file_name", "filename", "filepath", "file_path", "image", "image_path",
               "img", "img_path", "picture")  # fmt: skip
_LABEL_WORDS = ("label", "labels", "class", "class_name", "category", "target", "y")
_SPLIT_WORDS = ("split", "set", "subset", "partition")
_MAXIMUM_BYTES = 2**30

# A column's name to its values, a text or None for each row.
Columns = dict[str, list[str | None]]


def read_manifest(
    *,
    path: str,
    paths: str | None = None,
    labels: str | None = None,
    split: str | None = None,
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
    faults = ArgumentFaults()
    faults.choice("fit", fit, ("crop", "stretch", "pad"))
    faults.raise_if_any()
    check_arguments(image_size=image_size, test_fraction=test_fraction)
    listing = read_list(Path(path).expanduser(), paths=paths, labels=labels, split=split, to_measure=to_measure)
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
    file: Path, *, paths: str | None, labels: str | None, split: str | None, to_measure: bool = False
) -> Listing:
    """Returns the pictures a list names; see `read_manifest`.

    Raises:
        DataError: The list cannot be used; names file and row.
    """
    require_file(file, ACCEPTED)
    columns, first_row = _columns(file)
    rows = len(next(iter(columns.values()), []))
    if rows == 0:
        raise DataError(f"{file}: names no picture")
    path_column = _chosen(file, columns, "paths", paths, _PATH_WORDS) or _by_endings(columns)
    if path_column is None:
        raise DataError(f"{file}: which column holds the paths is unclear; name it by `paths` ({_listed(columns)})")
    label_column = _chosen(file, columns, "labels", labels, _LABEL_WORDS)
    if label_column is None:
        raise DataError(f"{file}: which column holds the labels is unclear; name it by `labels` ({_listed(columns)})")
    if to_measure and split not in columns:
        split = None
    split_column = _chosen(file, columns, "split", split, _SPLIT_WORDS)
    if path_column == label_column:
        raise DataError(
            f"{file}: column {path_column!r} cannot hold both paths and labels; name them by `paths` and `labels`"
        )
    found: dict[str, list[tuple[Path, str]]] = {}
    for row in range(rows):
        where = f"{file}: row {first_row + row}"
        name, label = columns[path_column][row], columns[label_column][row]
        if not name or not name.strip() or "\0" in name:
            raise DataError(f"{where} has no path in column {path_column!r}")
        if label is None or not label.strip():
            raise DataError(f"{where} has no label (a text or a whole number) in column {label_column!r}")
        part = "train"
        if split_column is not None:
            value = columns[split_column][row]
            part = PARTS.get((value or "").strip().lower(), "")
            if not part:
                raise DataError(f"{where} has {value!r:.60} in column {split_column!r}; expected {', '.join(PARTS)}")
        found.setdefault(part, []).append((file.parent / name.strip(), label.strip()))
    if "train" not in found and to_measure:
        found = {"train": [entry for entries in found.values() for entry in entries]}
    if "train" not in found:
        raise DataError(f"{file}: has no training row in column {split_column!r}")
    validation, test = validation_and_test(found)
    others = columns.keys() - {path_column, label_column, split_column}
    return Listing(
        root=file.parent,
        train=found["train"],
        validation=validation,
        test=test,
        source=f"pictures listed in {file}",
        found_labels=label_column if labels is None and others else None,
        notes=(NO_TEST_NOTE,) if "validation" in found and "test" not in found else (),
    )


def _chosen(file: Path, columns: Columns, key: str, name: str | None, words: Sequence[str]) -> str | None:
    if name is not None:
        if name not in columns:
            raise DataError(
                f"{file}: `{key}`: no column {name!r}{nearest(name, columns)}; there are: {_listed(columns)}"
            )
        return name
    return next((column for word in words for column in columns if column.strip().lower() == word), None)


def _by_endings(columns: Columns) -> str | None:
    """Returns the only column in which every value ends as a picture's name does."""
    found = [
        column
        for column, values in columns.items()
        if all(value is not None and Path(value).suffix.lower() in PICTURE_SUFFIXES for value in values)
    ]
    return found[0] if len(found) == 1 else None


def _listed(columns: Columns) -> str:
    return ", ".join(printable(column) for column in list(columns)[:12])


def _columns(file: Path) -> tuple[Columns, int]:
    """Returns the columns of a list and the number that its first row has in messages: lines count from 1."""
    kind = file.suffix.lower()
    if kind == ".parquet":
        return _of_parquet(file), 0
    if kind not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise DataError(f"{file}: unknown kind of list {kind!r}; expected {ACCEPTED}")
    try:
        if file.stat().st_size > _MAXIMUM_BYTES:
            raise DataError(f"{file}: has more than {_MAXIMUM_BYTES:,} bytes, which no list of pictures has")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected UTF-8 ({error})") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    return (_of_json_lines(text, file), 1) if kind in (".jsonl", ".ndjson") else (_of_table(text, file, kind), 2)


def _of_table(text: str, file: Path, kind: str) -> Columns:
    first_line = text.split("\n", 1)[0]
    # spreadsheets of half of Europe write semicolons
    separator = "\t" if kind == ".tsv" else max(",;\t", key=first_line.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if line]
    except csv.Error as error:
        raise DataError(f"{file}: cannot be read as a table ({error})") from None
    if not lines:
        raise DataError(f"{file}: is empty; expected a heading and a row a picture")
    heading = [name.strip() for name in lines[0]]
    twice = next((name for name in heading if heading.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{file}: its heading has the column {twice!r} more than once")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(heading):
            raise DataError(f"{file}: row {number} has {len(line)} values; the heading has {len(heading)}")
    return {name: [line[place] for line in lines[1:]] for place, name in enumerate(heading)}


def _of_json_lines(text: str, file: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{file}: row {number} is no JSON ({str(error)[:120]})") from None
        if not isinstance(row, dict):
            raise DataError(f"{file}: row {number} is no JSON object with keys, as every line must be")
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [_text(row.get(name)) for row in rows] for name in names}


def _of_parquet(file: Path) -> Columns:
    import pyarrow.types as types

    used = []
    for column in columns_of(file):
        kind = column.type
        if types.is_dictionary(kind):
            kind = kind.value_type
        numbers = types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind)
        if types.is_string(kind) or types.is_large_string(kind) or numbers:
            used.append(column.name)
    if not used:
        raise DataError(f"{file}: has no column of texts or numbers")
    table = read_table_columns(file, used)
    return {name: [_text(value) for value in table.column(name).to_pylist()] for name in used}


def _text(value: Any) -> str | None:
    """Returns a text or a whole number as text; nothing for what is neither."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():  # as pandas has whole numbers where one is missing
        value = int(value)
    try:
        return str(value) if isinstance(value, str | int) else None
    except ValueError:  # Python refuses to write out a number of very many digits
        return None
