"""Labelled texts as they stand in a user's files, before anything is learned from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from labelembed.data.columns.column_table import ColumnTable
from labelembed.data.columns.decoding import read_text
from labelembed.data.columns.finding import find_columns, find_text_columns, more_texts
from labelembed.data.columns.joining import as_setting, column_names, name_faults, quoted, with_texts
from labelembed.data.columns.labels import LabelReading, labelled_parts
from labelembed.data.columns.parts import ACCEPTED, Parts, Reading, missing_column, read_file, read_parts
from labelembed.data.data_notes import label_column_note
from labelembed.data.streams import require_file
from labelembed.errors import DataError


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
        train: Training rows.
        development: Rows to choose by that the data bring themselves, or None.
        test: Test rows, of the data's own or held out; None: rows to measure that name no test part.
        names: Names of the labels 0, 1, ...
        column: The column of the texts; None: they stood in several.
        label_column: The column of the labels.
        source: Where they came from, for messages and reports.
        notes: What the user should know of the data, one line each.
    """

    train: LabelledTexts
    development: LabelledTexts | None
    test: LabelledTexts | None
    names: tuple[str, ...]
    column: str | None
    label_column: str
    source: str
    notes: tuple[str, ...]

    @property
    def parts(self) -> dict[str, LabelledTexts]:
        """The parts that there are by name: `train`, `development`, `test`, in that order."""
        parts = {"train": self.train, "development": self.development, "test": self.test}
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

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        text_column: Column of the texts, or a list of several, joined with a line break; null: found by its name, then
            by what stands in it.
        label_column: Column of the labels; null: found likewise.
        split_column: Column that says which rows are train, dev and test; null: one named `split` or the like, if any.
        columns: Names of the columns of a CSV file without a heading.
        delimiter: Between the cells of a CSV file; null: found.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        merge_labels: Make labels that differ by case or spaces only one (true) or keep them apart (false); null: refuse
            such labels.
        minimum_label_rows: Leave out labels with fewer training rows.
        skip_incomplete: Leave out rows without a text or a label, with a note, instead of refusing the file.
        test_fraction: Part of the rows that becomes the test set where there is none; null: 0.2.
        to_measure: The rows are for a finished run to measure: none are held out for a test, and any label will do.

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
    faults.faults += name_faults(text_column).faults + labelling.faults().faults
    faults.raise_if_any()
    parts = read_parts(Path(path).expanduser(), reading, split=split_column, to_measure=to_measure)
    texts, label = find_columns(parts.train, texts=column_names(text_column), label=label_column)
    notes: list[str] = []
    if text_column is None:
        notes.append(f"texts are taken from column {quoted(texts)}")
    others = more_texts(parts.train, texts[0], label) if text_column is None else []
    if others:
        together = as_setting([name for name in parts.train.columns if name in (*texts, *others)])
        notes.append(f"{quoted(others)} {'holds' if len(others) == 1 else 'hold'} texts too; {together} joins them")
    parts = _with_texts(parts, texts, skip=skip_incomplete, notes=notes)
    found = labelled_parts(parts, label, labelling)
    if label_column is None:
        notes.append(label_column_note(label, found.labels["train"], found.names))

    def rows(part: str) -> LabelledTexts:
        return LabelledTexts(found.tables[part].columns[texts[0]], found.labels[part])

    return TextRows(
        train=rows("train"),
        development=rows("development") if "development" in found.tables else None,
        test=rows("test") if "test" in found.tables else None,
        names=found.names,
        column=texts[0] if len(texts) == 1 else None,
        label_column=label,
        source=f"texts in {parts.source}",
        notes=(*notes, *found.notes),
    )


def read_texts(
    path: Path,
    *,
    text_column: str | Sequence[str] | None = None,
    expected: str | None = None,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> tuple[list[str], list[str]]:
    """Returns the texts of one file without labels, and where each stands in it: ``row 17``.

    A ``.txt`` file (or ``.txt.gz``) has one text a line and no heading.

    Args:
        path: The file.
        text_column: Column of the texts, or several, joined as in `read_text_rows`; None: `expected`, or where that is
            None too the only column, or found.
        expected: The column that the texts of the training stood in. A file that knows the names of its columns may
            have one column of another name instead; in a CSV file that name could be the first text.
        columns: See `read_text_rows`.
        delimiter: See `read_text_rows`.
        encoding: See `read_text_rows`.

    Raises:
        DataError: As `read_text_rows`.
    """
    reading = Reading(delimiter=delimiter, encoding=encoding, columns=columns)
    faults = reading.faults()
    faults.faults += name_faults(text_column).faults
    faults.raise_if_any()
    require_file(path, ACCEPTED)
    if path.name.lower().endswith((".txt", ".txt.gz")):
        return text_lines(read_text(path, encoding=encoding))
    table = read_file(path, reading)
    only = next(iter(table.columns)) if len(table.columns) == 1 else None
    if text_column is None and expected is not None and expected not in table.columns:
        if only is None or not table.typed:
            what = f"{missing_column(table, 'text_column', expected)}; that column holds the texts of the training"
            raise DataError(f"{what}. Texts without a heading are read from a .txt file, one a line")
        expected = None
    names = find_text_columns(table, texts=column_names(text_column or expected or only))
    table = with_texts(table, names, skip=False, notes=[])
    return table.columns[names[0]], [table.place(row) for row in range(len(table))]


def text_lines(content: str) -> tuple[list[str], list[str]]:
    """Returns the texts of a file with one text a line, and where each stands: ``line 17``; empty lines hold none."""
    lines = re.split(r"\r\n|\n|\r", content)
    found = [(line, f"line {number:,}") for number, line in enumerate(lines, start=1) if line.strip()]
    return [line for line, _ in found], [place for _, place in found]


def _with_texts(parts: Parts, columns: Sequence[str], *, skip: bool, notes: list[str]) -> Parts:
    kept: dict[str, ColumnTable | None] = {"train": None, "development": None, "test": None}
    for part, table in parts.tables.items():
        kept[part] = with_texts(table, columns, skip=skip, notes=notes)
    train = kept["train"]
    assert train is not None
    return Parts(train=train, development=kept["development"], test=kept["test"], source=parts.source)
