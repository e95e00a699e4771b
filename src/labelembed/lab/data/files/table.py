"""The columns of one or more files, with where each example stands in its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from labelembed.errors import nearest
from labelembed.lab.data.checks import few, printable


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Columns of equal length.

    Attributes:
        source: File or folder they come from, for messages.
        columns: The values [N] of each column: texts, numbers, truth values or None.
        places: Where each example stands [N]: its number in the file, with the file before it where there are several.
        word: What the file calls an example: `row`, `line` or `entry`.
        typed: Whether the values have types; those of CSV are all texts.
        label_names: Names of the labels 0, 1, ... of columns for which the file knows them.
        left_aside: Columns that were not read, and what they hold.
        files: The parquet or arrow files that they can be read from.
        notes: What the user should know of the reading.
    """

    source: Path
    columns: Mapping[str, Sequence[Any]]
    places: Sequence[Any]
    word: str = "row"
    typed: bool = False
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_aside: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.columns)

    def values(self, name: str) -> Sequence[Any]:
        """Returns the values of a column [N]."""
        return self.columns[name]

    def select(self, rows: Sequence[int] | Tensor) -> Table:
        """Returns a table of the rows at these positions."""
        numbers = rows.tolist() if isinstance(rows, Tensor) else list(rows)
        columns = {name: [values[row] for row in numbers] for name, values in self.columns.items()}
        return replace(self, columns=columns, places=[self.places[row] for row in numbers])

    def without(self, names: Collection[str]) -> Table:
        """Returns a table without some of its columns."""
        return replace(self, columns={name: self.columns[name] for name in self.names if name not in names})

    def shown(self, row: int, *, without: Collection[str] = ()) -> str:
        """Returns a row as a person reads it, without some columns: ``age=39, sex=male``."""
        return ", ".join(f"{name}={values[row]}" for name, values in self.columns.items() if name not in without)

    def place(self, row: int) -> str:
        """Returns where a row stands: ``row 17``, or ``train-00001.parquet row 17`` where there are several files."""
        place = self.places[row]
        if isinstance(place, tuple):
            return f"{printable(place[0].name)} {self.word} {place[1]:,}"
        return f"{self.word} {place:,}"

    def places_of(self, rows: Sequence[int], *, most: int = 5) -> str:
        """Returns the first of several rows: ``row 3, row 8 and 12 more``."""
        return few([self.place(row) for row in rows], most)

    def listed(self) -> str:
        """Returns the columns' names for a message."""
        return few([*self.names, *self.left_aside], most=12)


def is_missing(value: Any) -> bool:
    """Tells whether a value is none: None, not a number, or a text of spaces."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value != value


def missing_column(table: Table, key: str, name: str) -> str:
    """Returns the message for a column that was named by the setting `key` and is not there."""
    if name in table.left_aside:
        return f"{table.source}: `{key}`: column {name!r} holds {table.left_aside[name]}; texts or numbers are read"
    folded = {column.strip().casefold(): column for column in table.names}
    other = folded.get(name.strip().casefold())
    hint = f" (did you mean {other!r}?)" if other else nearest(name, table.names)
    return f"{table.source}: `{key}`: no column {name!r}{hint}; there are: {table.listed()}"
