"""Labelled texts of a data set, and texts alone, before anything is learned from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from labelembed.data.checks import require_file
from labelembed.data.data_notes import label_column_note
from labelembed.data.files.columns import as_setting, find_columns, find_text_columns, more_texts
from labelembed.data.files.labels import LabelReading, labelled_tables
from labelembed.data.files.parts import ACCEPTED, Reading, read_file, read_parts
from labelembed.data.files.table import Table, is_missing, missing_column
from labelembed.data.files.text import read_text
from labelembed.errors import ArgumentFaults, DataError

#: What stands between the texts of two columns.
BETWEEN = "\n"
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+(e[-+]?\d+)?\s*", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """Texts and their labels.

    Args:
        texts: N texts.
        labels: Labels [N], int64.
    """

    texts: Sequence[str]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False, kw_only=True)
class TextRows:
    """A data set of labelled texts.

    Attributes:
        train: Training texts.
        validation: Texts to choose by that the data bring themselves, or None.
        test: Test texts, of the data's own or held out; None: texts to measure that name no test part.
        names: Names of the labels 0, 1, ...
        column: The column of the texts; None: they stood in several.
        label_column: The column of the labels.
        source: Where they came from, for messages and reports.
        notes: What the user should know of the data, one line each.
    """

    train: LabelledTexts
    validation: LabelledTexts | None
    test: LabelledTexts | None
    names: tuple[str, ...]
    column: str | None
    label_column: str
    source: str
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, LabelledTexts]:
        """The parts that there are by name: `train`, `validation`, `test`, in that order."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def texts(self) -> list[str]:
        """The texts of all parts, one part after the other."""
        return [text for part in self.parts.values() for text in part.texts]

    @property
    def labels(self) -> dict[str, Tensor]:
        """The labels [N] of each part."""
        return {name: part.labels for name, part in self.parts.items()}


def read_text_rows(
    *,
    path: str,
    text_column: str | Sequence[str] | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    merge_labels: bool | None = None,
    minimum_label_rows: int = 1,
    skip_incomplete: bool = False,
    test_fraction: float | None = None,
    to_measure: bool = False,
) -> TextRows:
    """Returns the labelled texts of CSV, TSV, JSON lines or parquet files, or of a saved data set.

    The arguments are those of the reader `texts`.

    Raises:
        DataError: The files cannot be read, a column cannot be told, or rows cannot be used; names file and row, and
            the setting that goes on.
        ValueError: An argument is out of its range.
    """
    reading = Reading(delimiter=delimiter, encoding=encoding, columns=columns)
    labelling = LabelReading(
        merge=merge_labels,
        minimum_rows=minimum_label_rows,
        skip_incomplete=skip_incomplete,
        test_fraction=test_fraction,
        to_measure=to_measure,
    )
    faults = reading.faults()
    faults.faults += _name_faults(text_column).faults + labelling.faults().faults
    faults.raise_if_any()
    source = Path(path).expanduser()
    tables = read_parts(source, reading, split=split_column, to_measure=to_measure)
    texts, label = find_columns(tables["train"], texts=_as_list(text_column), label=label_column)
    notes: list[str] = []
    if text_column is None:
        notes.append(f"texts are taken from column {_quoted(texts)}")
        others = more_texts(tables["train"], texts[0], label)
        if others:
            together = as_setting([name for name in tables["train"].names if name in (*texts, *others)])
            notes.append(
                f"{_quoted(others)} {'holds' if len(others) == 1 else 'hold'} texts too; {together} joins them"
            )
    tables = {part: _with_texts(table, texts, skip=skip_incomplete, notes=notes) for part, table in tables.items()}
    found = labelled_tables(tables, label, labelling, source)
    if label_column is None:
        notes.append(label_column_note(label, found.labels["train"], found.names))
    rows = {part: LabelledTexts(table.values(texts[0]), found.labels[part]) for part, table in found.tables.items()}
    return TextRows(
        train=rows["train"],
        validation=rows.get("validation"),
        test=rows.get("test"),
        names=found.names,
        column=texts[0] if len(texts) == 1 else None,
        label_column=label,
        source=f"texts in {source}",
        notes=(*notes, *found.notes),
    )


def read_new_texts(
    path: Path, reading: Reading, *, text_column: str | Sequence[str] | None = None, expected: str | None = None
) -> tuple[list[str], list[str]]:
    """Returns the texts of one file without labels, and where each stands in it: ``row 17``.

    A ``.txt`` file (or ``.txt.gz``) has one text a line and no heading.

    Args:
        path: The file.
        reading: How it is read.
        text_column: Column of the texts, or several, joined as in `read_text_rows`; None: `expected`, or where that is
            None too the only column, or found.
        expected: The column that the texts of the training stood in. A file that knows the names of its columns may
            have one column of another name instead; in a CSV file that name could be the first text.

    Raises:
        DataError: As `read_text_rows`.
    """
    faults = reading.faults()
    faults.faults += _name_faults(text_column).faults
    faults.raise_if_any()
    require_file(path, ACCEPTED)
    if path.name.lower().endswith((".txt", ".txt.gz")):
        return text_lines(read_text(path, encoding=reading.encoding))
    table = read_file(path, reading)
    only = table.names[0] if len(table.names) == 1 else None
    if text_column is None and expected is not None and expected not in table.names:
        if only is None or not table.typed:
            what = f"{missing_column(table, 'text_column', expected)}; that column holds the texts of the training"
            raise DataError(f"{what}. Texts without a heading are read from a .txt file, one a line")
        expected = None
    names = find_text_columns(table, texts=_as_list(text_column or expected or only))
    table = _with_texts(table, names, skip=False, notes=[])
    return table.values(names[0]), [table.place(row) for row in range(len(table))]


def text_lines(content: str) -> tuple[list[str], list[str]]:
    """Returns the texts of a file with one text a line, and where each stands: ``line 17``; empty lines hold none."""
    lines = re.split(r"\r\n|\n|\r", content)
    found = [(line, f"line {number:,}") for number, line in enumerate(lines, start=1) if line.strip()]
    return [line for line, _ in found], [place for _, place in found]


def _as_list(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)


def _name_faults(given: str | Sequence[str] | None) -> ArgumentFaults:
    faults = ArgumentFaults()
    names = _as_list(given)
    faults.require(given is None or bool(names), "text_column", given, "must name one column or more")
    faults.require(len(set(names)) == len(names), "text_column", given, "must name each column once")
    return faults


def _quoted(names: Sequence[str]) -> str:
    """Returns names as a message has them: ``'title', 'subtitle' and 'body'``."""
    *first, last = map(repr, names)
    return f"{', '.join(first)} and {last}" if first else last


def _with_texts(table: Table, names: Sequence[str], *, skip: bool, notes: list[str]) -> Table:
    """Returns the rows that have a text, which stands in the first of the columns and is that of all, joined.

    A column of a row that has none counts as an empty text.

    Args:
        table: The rows.
        names: Columns of the texts.
        skip: Leave rows without a text out, with a note, instead of refusing the table.
        notes: Where that is noted.

    Raises:
        DataError: A column is not there or holds numbers, or rows have no text in any of the columns.
    """
    for name in names:
        if name not in table.names:
            raise DataError(missing_column(table, "text_column", name))
        _refuse_numbers(table, name)
    table = _complete(table, names, skip=skip, notes=notes)
    if len(names) == 1:
        return table
    rows = zip(*map(table.values, names), strict=True)
    texts = [BETWEEN.join("" if is_missing(value) else value for value in row) for row in rows]
    return replace(table, frame=table.frame.assign(**{names[0]: texts}))


def _refuse_numbers(table: Table, column: str) -> None:
    values = [value for value in table.values(column) if not is_missing(value)]
    numeric = sum(not isinstance(value, str) or _NUMBER.fullmatch(value) is not None for value in values)
    if numeric > len(values) // 2:
        raise DataError(
            f"{table.source}: column {column!r} holds numbers in {numeric:,} of {len(table):,} rows; "
            f"name the column of the texts with --set data.text_column=...; there are: {table.listed()}"
        )


def _complete(table: Table, names: Sequence[str], *, skip: bool, notes: list[str]) -> Table:
    """Returns the rows that have a text; refuses those without unless `skip`."""

    def is_wrong(value: Any) -> bool:
        return not isinstance(value, str) and not is_missing(value)

    rows = list(zip(*map(table.values, names), strict=True))
    missing = [number for number, row in enumerate(rows) if all(map(is_missing, row))]
    others = [number for number, row in enumerate(rows) if any(map(is_wrong, row))]
    if not missing and not others:
        return table
    wrong = [
        f"{what} in {len(found):,} ({table.places(found)})"
        for what, found in (("no text", missing), ("a number", others))
        if found
    ]
    has = f"column {_quoted(names)} has" if len(names) == 1 else f"columns {_quoted(names)} have"
    said = f"{has} {' and '.join(wrong)} of {len(table):,} rows"
    if not skip:
        raise DataError(f"{table.source}: {said}; leave those rows out with --set data.skip_incomplete=true")
    notes.append(f"rows left out: {said}")
    without = {*missing, *others}
    return table.select([row for row in range(len(table)) if row not in without])
