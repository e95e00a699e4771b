"""Tables of numbers and categories: the reader `table`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from labelembed.errors import ArgumentErrors, DataError
from labelembed.lab.data.encoder import Encoder, NewExamples
from labelembed.lab.data.encoders.table import TableEncoder
from labelembed.lab.data.encoders.table_columns import Kind
from labelembed.lab.data.files.columns import find_columns, find_label
from labelembed.lab.data.files.parts import Parts, read_file
from labelembed.lab.data.files.table import Table, missing_column
from labelembed.lab.data.found import Found, Place
from labelembed.lab.data.readers.labelled_files import LabelledFiles, label_names, usable_columns


@dataclass(frozen=True, kw_only=True)
class TableReader(LabelledFiles):
    """A table of CSV, TSV, JSON lines or parquet, or a saved data set, as numbers.

    Columns of numbers are filled with the median and scaled, columns of categories get an input for each category.
    Dates, texts, and columns with another value in nearly every example are left out. All of this is learned from the
    training examples that stay when validation and test examples are held out.

    Args:
        numeric: Columns that are numbers, whatever they look like.
        categorical: Columns that are categories, whatever they look like: codes, for instance.
        leave_out: Columns that are not to be learned from.
        most_categories: Inputs of a column of categories at most; the rarest share one.

    Raises:
        ValueError: An argument is out of its range.
    """

    what: ClassVar[str] = "table"
    numeric: list[str] | None = None
    categorical: list[str] | None = None
    leave_out: list[str] | None = None
    most_categories: int = 50

    def errors(self) -> ArgumentErrors:
        """Returns what is wrong with the arguments."""
        errors = super().errors()
        errors.require(self.most_categories >= 2, "most_categories", self.most_categories, "must be >= 2")
        seen: set[str] = set()
        for key, names, _ in self._asked_lists():
            for name in names:
                errors.require(name not in seen, key, name, "must not name a column that is named already")
                seen.add(name)
        return errors

    def _asked_lists(self) -> list[tuple[str, list[str], Kind | None]]:
        kinds: tuple[tuple[str, Kind | None], ...] = (
            ("numeric", "numeric"),
            ("categorical", "categorical"),
            ("leave_out", None),
        )
        return [(key, getattr(self, key) or [], kind) for key, kind in kinds]

    @classmethod
    def finds(cls, place: Place) -> Found | None:
        """Returns what there is: labels and columns that are not all texts.

        Raises:
            DataError: There is a table, and a column of labels or one to learn from cannot be told.
        """
        if place.tables is None:
            return None
        train = place.tables["train"]
        label = find_label(train, place.text("label_column"))
        if not usable_columns(train, without=[label]):
            find_columns(train, texts=(), label=label)  # which says what would be needed
        names = label_names(train, label)
        count = sum(map(len, place.tables.values()))
        what = (
            f"{count:,} examples, {len(names):,} classes, {len(train.names) - 1:,} columns and the labels in {label!r}"
        )
        return Found(what, len(train), names)

    def new_encoder(self) -> TableEncoder:
        """Returns what will learn how the columns become numbers."""
        asked = {name: kind for _, names, kind in self._asked_lists() for name in names}
        return TableEncoder(asked=asked, most_categories=self.most_categories)

    def label_of(self, tables: Parts, notes: list[str], *, to_evaluate: bool) -> str:
        """Returns the column of the labels."""
        train = tables["train"]
        label = find_label(train, self.label_column)
        for key, names, kind in self._asked_lists():
            for name in [] if to_evaluate else names:
                if name not in train.names and name not in train.left_aside:
                    raise DataError(missing_column(train, key, name))
                if name == label and kind is not None:
                    raise DataError(f"{self.source}: column {label!r} holds the labels, and cannot be learned from")
        return label

    def inputs_of(self, table: Table) -> Table:
        """Returns the table."""
        return table

    def new_examples(self, file: Path, encoder: Encoder, *, invert: bool = False) -> NewExamples:
        """Returns the examples of a file to predict for."""
        table = read_file(file, self.reading)
        return NewExamples(table, [f"{file.name} {table.place(row)}" for row in range(len(table))], [])
