"""Columns of one part of a data set, with where each row stands in its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from labelembed.data.checks import printable

#: A text, a number, a truth value, a date or nothing (None).
Value = Any

_SHOWN_COLUMNS = 12


class Section(NamedTuple):
    """Rows that come from one file: what the file calls them (`row`, `line`) and their numbers there."""

    file: Path
    word: str
    numbers: Sequence[int]


@dataclass(frozen=True, eq=False, kw_only=True)
class ColumnTable:
    """Columns of equal length.

    Attributes:
        source: File or folder they come from, for messages.
        columns: Values by column.
        sections: Where the rows stand, in order.
        typed: Whether the values have their types; those of CSV are all texts.
        label_names: Names of labels 0, 1, ... of columns for which the file knows them.
        left_aside: Columns that were not read, and what they hold.
        notes: What the user should know of the reading.
    """

    source: Path
    columns: Mapping[str, list[Value]]
    sections: tuple[Section, ...]
    typed: bool
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_aside: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return sum(len(section.numbers) for section in self.sections)

    def place(self, row: int) -> str:
        """Returns where a row stands: ``row 17``, or ``train-00001.parquet row 17`` where there are several files."""
        for section in self.sections:
            if row < len(section.numbers):
                file = f"{printable(section.file.name)} " if len(self.sections) > 1 else ""
                return f"{file}{section.word} {section.numbers[row]:,}"
            row -= len(section.numbers)
        raise IndexError(row)

    def places(self, rows: Sequence[int], *, most: int = 5) -> str:
        """Returns the first of several rows: ``row 3, row 8 and 12 more``."""
        shown = ", ".join(self.place(row) for row in islice(rows, most))
        return f"{shown} and {len(rows) - most:,} more" if len(rows) > most else shown

    def select(self, rows: Sequence[int]) -> ColumnTable:
        """Returns a table of the rows at these positions, in ascending order."""
        sections = []
        begin, place = 0, 0
        for section in self.sections:
            end = begin + len(section.numbers)
            numbers = []
            while place < len(rows) and rows[place] < end:
                numbers.append(section.numbers[rows[place] - begin])
                place += 1
            if numbers:
                sections.append(section._replace(numbers=numbers))
            begin = end
        return ColumnTable(
            source=self.source,
            columns={name: [values[row] for row in rows] for name, values in self.columns.items()},
            sections=tuple(sections),
            typed=self.typed,
            label_names=self.label_names,
            left_aside=self.left_aside,
            notes=self.notes,
        )

    def listed(self) -> str:
        """Returns the columns' names for a message."""
        names = [printable(name) for name in [*self.columns, *self.left_aside]]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return ", ".join(names[:_SHOWN_COLUMNS]) + more


def is_missing(value: Value) -> bool:
    """Tells whether a value is none: None, not a number, or a text of spaces."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value != value


def without_columns(table: ColumnTable, names: Collection[str]) -> ColumnTable:
    """Returns a table without some of its columns."""
    return replace(table, columns={name: values for name, values in table.columns.items() if name not in names})
