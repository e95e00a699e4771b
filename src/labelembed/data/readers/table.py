"""Tables of numbers and categories: the reader `table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from labelembed.data.data_notes import label_column_note
from labelembed.data.dataset import RawData
from labelembed.data.encoders.table import TableEncoding
from labelembed.data.encoders.table_columns import Kind
from labelembed.data.encoders.table_fitting import fit_columns
from labelembed.data.files.columns import find_only_labels
from labelembed.data.files.labels import LabelReading, labelled_tables
from labelembed.data.files.parts import Reading, read_parts
from labelembed.data.files.table import Table, missing_column
from labelembed.data.readers.texts import raw_rows
from labelembed.errors import DataError


class TableContent:
    """Rows of a table that become inputs.

    Args:
        tables: Training, validation and test rows, those that there are.
        asked: See `fit_columns`.
        most_categories: See `fit_columns`.
    """

    def __init__(self, tables: Sequence[Table], *, asked: Mapping[str, Kind | None], most_categories: int) -> None:
        self.tables = list(tables)
        self._values = [{name: table.values(name) for name in table.names} for table in tables]
        self._asked = asked
        self._most_categories = most_categories

    def fit(self, rows: Tensor) -> TableEncoding:
        """Returns what was learned of the training rows at these positions [N]."""
        table, places = self._located(rows)
        return fit_columns(table, places, asked=self._asked, most_categories=self._most_categories)

    def inputs(self, encoding: TableEncoding, rows: Tensor) -> Tensor:
        """Returns the inputs [N, F] of the rows at these positions [N], which are of one part."""
        return encoding.encode(*self._located(rows))

    def cut(self, encoding: TableEncoding, rows: Tensor) -> None:
        """Returns that nothing is cut."""
        return None

    def shown(self, row: int, encoding: TableEncoding | None = None) -> str:
        """Returns a row: ``age=39, sex=male``; with `encoding` without the columns that it leaves out."""
        part, place = self._at(row)
        left_out = () if encoding is None else encoding.left_out
        columns = self._values[part].items()
        return ", ".join(f"{name}={values[place]}" for name, values in columns if name not in left_out)

    def _at(self, row: int) -> tuple[int, int]:
        """Returns the table that holds a row, and its position in it."""
        for part, table in enumerate(self.tables):
            if row < len(table):
                return part, row
            row -= len(table)
        raise IndexError(row)

    def _located(self, rows: Tensor) -> tuple[Table, list[int]]:
        if len(rows) == 0:
            return self.tables[0], []
        part, place = self._at(int(rows[0]))
        return self.tables[part], (rows - int(rows[0]) + place).tolist()


def read_table(
    *,
    path: str,
    label_column: str | None = None,
    split_column: str | None = None,
    numeric: list[str] | None = None,
    categorical: list[str] | None = None,
    leave_out: list[str] | None = None,
    most_categories: int = 50,
    columns: list[str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    merge_labels: bool | None = None,
    minimum_label_rows: int = 1,
    skip_incomplete: bool = False,
    test_fraction: float | None = None,
    to_measure: bool = False,
) -> RawData:
    """Returns a table of CSV, TSV, JSON lines or parquet, or a saved data set, as numbers.

    Columns of numbers are filled with the median and scaled, columns of categories get an input for each category.
    Dates, texts, and columns with another value in nearly every row are left out. All of this is learned from the
    training rows that stay when validation and test rows are held out.

    Args:
        path: A file, a folder with train, test and dev files, or a data set that the `datasets` library saved.
        label_column: Column of the labels; null: found by its name, then by what stands in it.
        split_column: Column that says which rows are train, dev and test; null: one named `split` or the like, if any.
        numeric: Columns that are numbers, whatever they look like.
        categorical: Columns that are categories, whatever they look like: codes, for instance.
        leave_out: Columns that are not to be learned from.
        most_categories: Inputs of a column of categories at most; the rarest share one.
        columns: Names of the columns of a CSV file without a heading.
        delimiter: Between the cells of a CSV file; null: found.
        encoding: Of text files; null: UTF-8, or what a byte order mark says.
        merge_labels: Make labels that differ by case or spaces only one (true) or keep them apart (false); null: refuse
            such labels.
        minimum_label_rows: Leave out labels with fewer training rows.
        skip_incomplete: Leave out rows without a label, with a note, instead of refusing the file.
        test_fraction: Part of the rows that becomes the test set where there is none; null: 0.2.
        to_measure: The rows are for a finished run to measure: none are held out for a test, and any label will do.

    Raises:
        DataError: The files cannot be read, the labels cannot be told, or rows cannot be used; names file and row, and
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
    asked: dict[str, Kind | None] = {}
    faults = reading.faults()
    faults.faults += labelling.faults().faults
    faults.require(most_categories >= 2, "most_categories", most_categories, "must be >= 2")
    kinds: list[tuple[str, list[str] | None, Kind | None]] = [
        ("numeric", numeric, "numeric"),
        ("categorical", categorical, "categorical"),
        ("leave_out", leave_out, None),
    ]
    for key, names, kind in kinds:
        for name in names or []:
            faults.require(name not in asked, key, name, "must not name a column that is named already")
            asked[name] = kind
    faults.raise_if_any()
    source = Path(path).expanduser()
    tables = read_parts(source, reading, split=split_column, to_measure=to_measure)
    train = tables["train"]
    label = find_only_labels(train, label=label_column)
    for key, names, _ in kinds:
        for name in [] if to_measure else names or []:
            if name not in train.names and name not in train.left_aside:
                raise DataError(missing_column(train, key, name))
    if asked.get(label, "leave out") is not None and label in asked:
        raise DataError(f"{source}: column {label!r} holds the labels, and cannot be learned from")
    found = labelled_tables(tables, label, labelling, source)
    content = TableContent(
        [table.without((label,)) for table in found.tables.values()], asked=asked, most_categories=most_categories
    )
    labels = dict(found.labels)
    notes = [] if label_column is not None else [label_column_note(label, labels["train"], found.names)]
    notes += found.notes
    return raw_rows(content, labels, found.names, f"table {source}", tuple(notes), label_column=label)
