"""CSV and TSV files, by the standard library's parser: it says where a row is ragged or a quotation mark open."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

from labelembed.errors import DataError
from labelembed.lab.data.checks import counted, few
from labelembed.lab.data.files.table import Table

#: A cell of more characters is refused: most often a quotation mark that is never closed.
MAXIMUM_CELL = 2_000_000
_DELIMITERS = ",;\t|"
_LOOKED_AT = 100
_LOOKED_AT_CHARACTERS = 2**20
# One for the whole process, and 131,072 at first, which is less than a long text has.
csv.field_size_limit(MAXIMUM_CELL)


def read_csv(
    text: str, file: Path, *, delimiter: str | None = None, tabs: bool = False, columns: Sequence[str] | None = None
) -> Table:
    """Returns the examples of a table written as text, its values all texts.

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
    quoted = not (cut_at == "\t" and '"' in text and _has_loose_marks(text, file))
    rows = _rows(text, file, cut_at, quoted=quoted)
    numbers = [number for number, cells in enumerate(rows, start=1) if cells]
    if not numbers:
        raise DataError(f"{file}: is empty")
    heading = [name.strip() for name in (rows[numbers[0] - 1] if columns is None else columns)]
    _require_heading(heading, file, text, cut_at, given=delimiter is not None)
    if columns is None:
        del numbers[0]
    if not numbers:
        raise DataError(f"{file}: has a heading and no row: {few(heading, most=12)}")
    ragged = next((number for number in numbers if len(rows[number - 1]) != len(heading)), None)
    if ragged is not None:
        cells, wanted = counted(len(rows[ragged - 1]), "cell"), counted(len(heading), "cell")
        raise DataError(
            f"{file}: row {ragged:,} has {cells} when cut at {_shown(cut_at)}, "
            f"{'the heading has' if columns is None else '`columns` has'} {wanted}; put texts that hold a "
            f"{_shown(cut_at)} in quotation marks, or name another delimiter with --set data.delimiter=..."
        )
    note = f"{file.name}: read without quotation marks: they do not come in pairs, so they are plain characters"
    columns_of_cells = zip(*(rows[number - 1] for number in numbers), strict=True)
    values = dict(zip(heading, map(list, columns_of_cells), strict=True))
    return Table(source=file, columns=values, places=numbers, notes=() if quoted else (note,))


def _rows(text: str, file: Path, delimiter: str, *, quoted: bool) -> list[list[str]]:
    """Returns the cells of every row, none of an empty one.

    Raises:
        DataError: A quotation mark stands where none may, or a cell is too large; names row and line.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, quoting=quoting)
    rows: list[list[str]] = []
    begin = 1
    try:
        for cells in reader:
            rows.append(cells)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{file}: {_refusal(str(error), len(rows) + 1, begin)}") from None
    return rows


def _has_loose_marks(text: str, file: Path) -> bool:
    """Tells whether a file cut at tabs has quotation marks that are letters: about half are written without quoting."""
    plain = [cells for cells in _rows(text, file, "\t", quoted=False) if cells]
    if len(set(map(len, plain))) > 1:
        return False
    try:
        return len(plain) > sum(map(bool, _rows(text, file, "\t", quoted=True)))
    except DataError:
        return True


def found_delimiter(text: str) -> str:
    """Returns the delimiter that cuts the first rows into equally many cells, the most where several do."""

    def evenness(delimiter: str) -> tuple[bool, int]:
        lengths = _first_lengths(text, delimiter)
        return len(set(lengths)) == 1 and lengths[0] > 1, lengths[0] if lengths else 0

    return max(_DELIMITERS, key=evenness)


def _first_lengths(text: str, delimiter: str) -> list[int]:
    beginning = text[:_LOOKED_AT_CHARACTERS]
    rows = csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter)
    try:
        lengths = [len(cells) for cells in islice(filter(None, rows), _LOOKED_AT)]
    except csv.Error:
        return []
    is_cut = len(beginning) < len(text) and 1 < len(lengths) < _LOOKED_AT
    return lengths[:-1] if is_cut else lengths


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


def _require_heading(heading: list[str], file: Path, text: str, delimiter: str, *, given: bool) -> None:
    twice = next((name for name in heading if heading.count(name) > 1), None)
    if twice == "":
        raise DataError(f"{file}: its heading has more than one column without a name; name each column")
    if twice is not None:
        raise DataError(f"{file}: its heading has the column {twice!r} more than once; give each a name of its own")
    if given and len(heading) == 1:
        better = found_delimiter(text)
        cells = (_first_lengths(text, better) or [1])[0]
        if cells > 1 and better != delimiter:
            raise DataError(
                f"{file}: has one column only, {heading[0]!r:.60}, when cut at {_shown(delimiter)}; cut at "
                f"{_shown(better)} it has {cells}: --set data.delimiter='{_typed(better)}'"
            )


def _shown(delimiter: str) -> str:
    return "tabs" if delimiter == "\t" else repr(delimiter)


def _typed(delimiter: str) -> str:
    return '"\\t"' if delimiter == "\t" else f'"{delimiter}"'
