"""The rows of one or more files as columns, with where each row stands in its file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labelembed.data.checks import printable
from labelembed.errors import nearest

if TYPE_CHECKING:
    import pandas

_SHOWN_COLUMNS = 12


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Columns of equal length.

    Attributes:
        source: File or folder they come from, for messages.
        frame: The values: texts, numbers, truth values or None. The index says where a row stands: its number in the
            file, with the file's name before it where there are several files.
        word: What the file calls a row: `row`, `line` or `entry`.
        typed: Whether the values have types; those of CSV are all texts.
        label_names: Names of the labels 0, 1, ... of columns for which the file knows them.
        left_aside: Columns that were not read, and what they hold.
        notes: What the user should know of the reading.
    """

    source: Path
    frame: pandas.DataFrame
    word: str
    typed: bool
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_aside: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return list(self.frame.columns)

    def values(self, name: str) -> list[Any]:
        """Returns the values of a column [N]."""
        values: list[Any] = self.frame[name].tolist()
        return values

    def select(self, rows: Sequence[int]) -> Table:
        """Returns a table of the rows at these positions."""
        return replace(self, frame=self.frame.iloc[list(rows)])

    def without(self, names: Collection[str]) -> Table:
        """Returns a table without some of its columns."""
        return replace(self, frame=self.frame[[name for name in self.names if name not in names]])

    def place(self, row: int) -> str:
        """Returns where a row stands: ``row 17``, or ``train-00001.parquet row 17`` where there are several files."""
        place = self.frame.index[row]
        if isinstance(place, tuple):
            return f"{printable(place[0])} {self.word} {place[1]:,}"
        return f"{self.word} {place:,}"

    def places(self, rows: Sequence[int], *, most: int = 5) -> str:
        """Returns the first of several rows: ``row 3, row 8 and 12 more``."""
        shown = ", ".join(self.place(row) for row in islice(rows, most))
        return f"{shown} and {len(rows) - most:,} more" if len(rows) > most else shown

    def listed(self) -> str:
        """Returns the columns' names for a message."""
        names = [printable(name) for name in [*self.names, *self.left_aside]]
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        return ", ".join(names[:_SHOWN_COLUMNS]) + more


def table_of(source: Path, columns: Mapping[str, Sequence[Any]], places: Any, **about: Any) -> Table:
    """Returns a table of values that keep their Python types.

    Args:
        source: See `Table`.
        columns: The values [N] by column.
        places: The index of the frame, see `Table`.
        about: The other attributes of `Table`.
    """
    import pandas

    return Table(source=source, frame=pandas.DataFrame(columns, index=places, dtype=object), **about)


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
