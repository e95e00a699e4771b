"""Rows of CSV and TSV files: the delimiter found or given, cells of a bounded size, every fault with its row."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Literal

from labelembed.data.checks import printable
from labelembed.data.columns.column_table import ColumnTable, Section
from labelembed.errors import DataError

#: A cell of more characters is refused: most often a quotation mark that is never closed.
MAXIMUM_CELL = 2_000_000
_DELIMITERS = ",;\t|"
_LOOKED_AT = 100
# csv.field_size_limit is one for the whole process.
_LIMIT = threading.Lock()


def delimited_table(
    text: str, file: Path, *, delimiter: str | None, tabs: bool, columns: Sequence[str] | None
) -> ColumnTable:
    """Returns the rows of a table written as text, its values all texts.

    Args:
        text: The file's text.
        file: The file, for messages.
        delimiter: Between cells; None: the one that cuts the first rows into equally many.
        tabs: Without `delimiter`, cells are cut at tabs.
        columns: Names of the columns of a file that has no heading.

    Raises:
        DataError: The text is no table, has no row, or a column twice; names the row.
    """
    cut_at = delimiter or ("\t" if tabs else found_delimiter(text))
    rows, unquoted = _rows(text, file, cut_at)
    heading = [name.strip() for name in (columns if columns is not None else rows[0][1])]
    body = rows if columns is not None else rows[1:]
    _require_heading(heading, file, text, cut_at, given=delimiter is not None)
    if not body:
        raise DataError(f"{file}: has a heading and no row: {', '.join(map(printable, heading[:12]))}")
    for number, cells in body:
        if len(cells) != len(heading):
            whose = "`columns` has" if columns is not None else "the heading has"
            raise DataError(
                f"{file}: row {number:,} has {_counted(len(cells))} when cut at {_shown(cut_at)}, {whose} "
                f"{_counted(len(heading))}; put texts that hold a {_shown(cut_at)} in quotation marks, or name another "
                "delimiter with --set data.delimiter=..."
            )
    notes = ["read without quotation marks: taken for letters, they stand unpaired"] if unquoted else []
    return ColumnTable(
        source=file,
        columns={name: [cells[place] for _, cells in body] for place, name in enumerate(heading)},
        sections=(Section(file, "row", [number for number, _ in body]),),
        typed=False,
        notes=tuple(f"{file.name}: {note}" for note in notes),
    )


def found_delimiter(text: str) -> str:
    """Returns the delimiter that cuts the first rows into equally many cells, the most where several do."""
    counts = {}
    for delimiter in _DELIMITERS:
        lengths = _first_lengths(text, delimiter)
        even = len(set(lengths)) == 1
        counts[delimiter] = (even and lengths[0] > 1, lengths[0] if lengths else 0)
    return max(_DELIMITERS, key=lambda delimiter: counts[delimiter])


def _first_lengths(text: str, delimiter: str) -> list[int]:
    with _cells_up_to(MAXIMUM_CELL):
        try:
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
            return [len(cells) for cells in islice((cells for cells in rows if cells), _LOOKED_AT)]
        except csv.Error:
            return []


def _rows(text: str, file: Path, delimiter: str) -> tuple[list[tuple[int, list[str]]], bool]:
    """Returns the rows with their numbers, and whether quotation marks were taken for letters."""
    if delimiter != "\t" or '"' not in text:
        return _parsed(text, file, delimiter, quoting=csv.QUOTE_MINIMAL), False
    # Of files cut at tabs about half are written without any quoting: then every line is a row.
    plain = _parsed(text, file, delimiter, quoting=csv.QUOTE_NONE)
    try:
        quoted = _parsed(text, file, delimiter, quoting=csv.QUOTE_MINIMAL)
    except DataError:
        quoted = []
    even = len({len(cells) for _, cells in plain}) == 1
    if even and len(plain) > len(quoted):
        return plain, True
    return (quoted, False) if quoted else (_parsed(text, file, delimiter, quoting=csv.QUOTE_MINIMAL), False)


def _parsed(text: str, file: Path, delimiter: str, *, quoting: Literal[0, 3]) -> list[tuple[int, list[str]]]:
    rows = []
    number = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    with _cells_up_to(MAXIMUM_CELL):
        begin = 1
        try:
            for number, cells in enumerate(reader, start=1):
                if cells:
                    rows.append((number, cells))
                begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(f"{file}: {_refusal(str(error), number + 1, begin)}") from None
    if not rows:
        raise DataError(f"{file}: is empty")
    return rows


def _refusal(said: str, number: int, line: int) -> str:
    where = f"row {number:,}, which begins in line {line:,},"
    if "field larger" in said:
        return (
            f"{where} has a cell of more than {MAXIMUM_CELL:,} characters; cut it, or close the quotation mark that "
            "stands open in that row"
        )
    if "unexpected end" in said:
        return f"{where} has a quotation mark that is never closed"
    if "expected after" in said:
        return f"{where} has letters after a closing quotation mark; write a quotation mark inside a text twice"
    return f"{where} cannot be read as a row ({said})"


@contextmanager
def _cells_up_to(characters: int) -> Iterator[None]:
    with _LIMIT:
        before = csv.field_size_limit(characters)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _require_heading(heading: list[str], file: Path, text: str, delimiter: str, *, given: bool) -> None:
    twice = next((name for name in heading if heading.count(name) > 1), None)
    if twice == "":
        raise DataError(f"{file}: its heading has more than one column without a name; name each column")
    if twice is not None:
        raise DataError(f"{file}: its heading has the column {twice!r} more than once; give each a name of its own")
    if given and len(heading) == 1:
        better = found_delimiter(text)
        cells = (_first_lengths(text, better) or [1])[0]
        if cells > 1:
            raise DataError(
                f"{file}: has one column only, {heading[0]!r:.60}, when cut at {_shown(delimiter)}; cut at "
                f"{_shown(better)} it has {cells}: --set data.delimiter='{_typed(better)}'"
            )


def _counted(cells: int) -> str:
    return "1 cell" if cells == 1 else f"{cells:,} cells"


def _shown(delimiter: str) -> str:
    return "tabs" if delimiter == "\t" else repr(delimiter)


def _typed(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'
