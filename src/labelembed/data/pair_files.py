"""Pairs of lines from what the user has: two line-aligned text files, or one file with two columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelembed.data.checks import printable
from labelembed.data.files.parts import Reading, is_readable, read_file
from labelembed.data.text_lines import BytesRead, line_blocks
from labelembed.errors import DataError, nearest

_SOURCE_WORDS = ("source", "src", "input", "text", "document", "article")
_TARGET_WORDS = ("target", "tgt", "trg", "output", "translation", "reference", "summary")
_TABLES, _LISTS = (".tsv", ".txt"), (".jsonl", ".ndjson")
ACCEPTED = "two text files of the same number of lines, or one file of pairs (.tsv, .jsonl, .csv, .parquet)"

#: Source lines and as many target lines.
PairBlock = tuple[list[str], list[str]]
# Gives the two texts of a row, or says what is wrong with it.
_RowReader = Callable[[str], tuple[str, str]]


@dataclass(frozen=True)
class PairFiles:
    """Where the pairs of a split are.

    Args:
        source: The file of the source lines, or the one file of pairs.
        target: The file of the target lines; None for a file of pairs.
        source_column: In a file of pairs the column of the source: its name, ``translation.en`` for a key within a
            key, or its number from 1 in a table without a heading; None: found by the usual names.
        target_column: The same of the target.
    """

    source: Path
    target: Path | None = None
    source_column: str | None = None
    target_column: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The one or two files."""
        return (self.source,) if self.target is None else (self.source, self.target)

    def blocks(self, *, bytes_read: BytesRead | None = None) -> Iterator[PairBlock]:
        """Yields the pairs, some thousands at a time.

        Raises:
            DataError: A file cannot be read, is empty, the files have different numbers of lines, or a row has not
                both texts; names file and line.
        """
        found = self._of_one(bytes_read) if self.target is None else _of_two(self.source, self.target, bytes_read)
        empty = True
        for block in found:
            empty = empty and not block[0]
            yield block
        if empty:
            raise DataError(f"{self.source}: is empty; expected a line a sentence")

    def _of_one(self, bytes_read: BytesRead | None) -> Iterator[PairBlock]:
        name = self.source.name.removesuffix(".gz").lower()
        if name.endswith(_TABLES + _LISTS):  # which may be very large, and are read block by block
            return self._rows(name.endswith(_LISTS), bytes_read)
        if not is_readable(self.source):
            raise DataError(f"{self.source}: one file must have two columns; expected {ACCEPTED}")
        return iter([self._whole()])

    def _whole(self) -> PairBlock:
        """Returns the pairs of a file that is read as labelled texts are: CSV, parquet, a list of JSON."""
        table = read_file(self.source, Reading())
        pairs: list[list[str]] = []
        for column in self._columns(table.names):
            pairs.append([])
            for row, value in enumerate(table.values(column)):
                try:
                    pairs[-1].append(_text(value, column))
                except ValueError as error:
                    raise DataError(f"{self.source}: {table.place(row)} {error}") from None
        return pairs[0], pairs[1]

    def _rows(self, of_json: bool, bytes_read: BytesRead | None) -> Iterator[PairBlock]:
        number = 0
        read: _RowReader | None = None
        for lines in line_blocks(self.source, bytes_read=bytes_read):
            source: list[str] = []
            target: list[str] = []
            for line in lines:
                number += 1
                if not line.strip():  # a line between rows is no pair
                    continue
                try:
                    if read is None:
                        read, heading = self._json_reader(line) if of_json else self._table_reader(line)
                        if heading:
                            continue
                    pair = read(line)
                except ValueError as error:
                    raise DataError(f"{self.source}: line {number:,} {error}") from None
                source.append(pair[0])
                target.append(pair[1])
            yield source, target

    def _json_reader(self, first: str) -> tuple[_RowReader, bool]:
        columns = _flat(_json_row(first))
        source, target = self._columns(list(columns))

        def read(line: str) -> tuple[str, str]:
            row = _flat(_json_row(line))
            return _text(row.get(source), source), _text(row.get(target), target)

        return read, False

    def _table_reader(self, first: str) -> tuple[_RowReader, bool]:
        cells = first.split("\t")
        given = [name for name in (self.source_column, self.target_column) if name is not None]
        numbered = [str(place + 1) for place in range(len(cells))]
        words = {cell.strip().lower() for cell in cells}
        no_heading = not given and len(cells) == 2 and not words & {*_SOURCE_WORDS, *_TARGET_WORDS}
        if no_heading or (given and set(given) <= set(numbered) and not set(given) & set(cells)):
            source, target = (
                int(name) - 1 for name in ((numbered[0], numbered[1]) if no_heading else self._both(given))
            )
            heading = False
        else:
            names = [cell.strip() for cell in cells]
            source, target = (names.index(name) for name in self._columns(names))
            heading = True

        def read(line: str) -> tuple[str, str]:
            row = line.split("\t")
            if len(row) != len(cells):
                raise ValueError(f"has {len(row)} columns, the first line has {len(cells)}")
            return row[source], row[target]

        return read, heading

    def _both(self, given: Sequence[str]) -> tuple[str, str]:
        if len(given) != 2 or given[0] == given[1]:
            raise DataError(f"{self.source}: name both columns, by --source-column and --target-column")
        return given[0], given[1]

    def _columns(self, columns: list[str]) -> tuple[str, str]:
        """Returns the columns of source and target."""
        chosen = []
        for side, given, words in (
            ("source", self.source_column, _SOURCE_WORDS),
            ("target", self.target_column, _TARGET_WORDS),
        ):
            listed = ", ".join(printable(column) for column in columns[:12])
            if given is not None and given not in columns:
                raise DataError(f"{self.source}: no column {given!r}{nearest(given, columns)}; there are: {listed}")
            found = given or next((name for word in words for name in columns if name.lower() == word), None)
            if found is None:
                raise DataError(
                    f"{self.source}: which column holds the {side} is unclear; name it by --{side}-column; "
                    f"there are: {listed}"
                )
            chosen.append(found)
        return self._both(chosen)


def _of_two(source: Path, target: Path, bytes_read: BytesRead | None) -> Iterator[PairBlock]:
    streams = [line_blocks(path, bytes_read=bytes_read) for path in (source, target)]
    waiting: list[list[str]] = [[], []]
    counts = [0, 0]

    def refill(side: int) -> bool:
        while not waiting[side]:
            lines = next(streams[side], None)
            if lines is None:
                return False
            waiting[side] = lines
            counts[side] += len(lines)
        return True

    while True:
        there = [refill(0), refill(1)]
        if not all(there):
            break
        size = min(len(waiting[0]), len(waiting[1]))
        yield waiting[0][:size], waiting[1][:size]
        waiting = [waiting[0][size:], waiting[1][size:]]
    for side in (0, 1):  # the longer file to its end, to say both counts
        counts[side] += sum(map(len, streams[side]))
    if counts[0] != counts[1]:
        raise DataError(
            f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}; line-aligned files have the same "
            "number, each line of one the translation of that line of the other"
        )


def _json_row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON ({str(error)[:120]})") from None
    if not isinstance(row, dict):
        raise ValueError("is no JSON object with keys, as every line must be")
    return row


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with the keys within a key as ``key.inner``."""
    inner = {
        f"{name}.{key}": value for name, part in row.items() if isinstance(part, dict) for key, value in part.items()
    }
    return {name: value for name, value in row.items() if not isinstance(value, dict)} | inner


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"has no text in column {column!r}, found {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"has half a character (a lone surrogate) in column {column!r}") from None
    return " ".join(value.split("\n")) if "\n" in value else value
