"""Pairs of lines from what the user has: two line-aligned text files, or one file with two columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import printable
from labelembed.lab.data.corpus.lines import BytesRead, line_blocks
from labelembed.lab.data.table_files import Reading, is_readable, read_file

_SOURCE_WORDS = ("source", "src", "input", "text", "document", "article")
_TARGET_WORDS = ("target", "tgt", "trg", "output", "translation", "reference", "summary")
_TABLES, _LISTS = (".tsv", ".txt"), (".jsonl", ".ndjson")
ACCEPTED = "two text files of the same number of lines, or one file of pairs (.tsv, .jsonl, .csv, .parquet)"

_PAIRS_A_BLOCK = 10_000

#: Source lines and as many target lines.
PairBlock = tuple[list[str], list[str]]


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
            return self._of_lines(name.endswith(_LISTS), bytes_read)
        if not is_readable(self.source):
            raise DataError(f"{self.source}: one file must have two columns; expected {ACCEPTED}")
        return iter([self._whole()])

    def _whole(self) -> PairBlock:
        """Returns the pairs of a file that is read as labelled texts are: CSV, parquet, a list of JSON."""
        table = read_file(self.source, reading=Reading())
        pairs: list[list[str]] = []
        for column in self._columns(table.names):
            values = enumerate(table.values(column))
            pairs.append([_text(value, column, f"{self.source}: {table.place(row)}") for row, value in values])
        return pairs[0], pairs[1]

    def _of_lines(self, of_json: bool, bytes_read: BytesRead | None) -> Iterator[PairBlock]:
        """Yields the pairs of a file with a pair a line, which may be very large."""
        number = 0
        columns: tuple[Any, Any] | None = None  # names of an object's keys, places in a table
        width = 0
        for lines in line_blocks(self.source, bytes_read=bytes_read):
            block: PairBlock = ([], [])
            for line in lines:
                number += 1
                if not line.strip():  # a line between pairs is none
                    continue
                where = f"{self.source}: line {number:,}"
                cells: dict[Any, Any]
                cells = _flat(_object(line, where)) if of_json else dict(enumerate(line.split("\t")))
                if columns is None:
                    width = len(cells)
                    columns, is_heading = (
                        (self._columns(list(cells)), False) if of_json else self._table_columns(list(cells.values()))
                    )
                    if is_heading:
                        continue
                if not of_json and len(cells) != width:
                    raise DataError(f"{where} has {len(cells)} columns, the first line has {width}")
                for side, column in zip(block, columns, strict=True):
                    side.append(_text(cells.get(column), column, where))
            yield block

    def _table_columns(self, first: list[str]) -> tuple[tuple[int, int], bool]:
        """Returns the places of source and target in the first line of a table, and whether it is a heading."""
        given = [name for name in (self.source_column, self.target_column) if name is not None]
        numbered = [str(place + 1) for place in range(len(first))]
        names = [name.strip() for name in first]
        known = {name.lower() for name in names} & {*_SOURCE_WORDS, *_TARGET_WORDS}
        if not given and len(first) == 2 and not known:
            return (0, 1), False
        if given and set(given) <= set(numbered) and not set(given) & set(first):
            source, target = self._both(given)
            return (int(source) - 1, int(target) - 1), False
        source, target = self._columns(names)
        return (names.index(source), names.index(target)), True

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
    sides = [chain.from_iterable(line_blocks(path, bytes_read=bytes_read)) for path in (source, target)]
    pairs = zip_longest(*sides)
    count = 0
    while block := list(islice(pairs, _PAIRS_A_BLOCK)):
        lines, others = ([line for line in side if line is not None] for side in zip(*block, strict=True))
        if len(lines) != len(others):
            counts = [count + len(side) for side in (lines, others)]
            for pair in pairs:  # the longer file to its end, to say both counts
                counts = [number + (line is not None) for number, line in zip(counts, pair, strict=True)]
            raise DataError(
                f"{source} has {counts[0]:,} lines and {target} has {counts[1]:,}; line-aligned files have the same "
                "number, each line of one the translation of that line of the other"
            )
        count += len(block)
        yield lines, others


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON ({str(error)[:120]})") from None
    if not isinstance(found, dict):
        raise DataError(f"{where} is no object; expected {{column: value, ...}}")
    return found


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with the keys within a key as ``key.inner``."""
    inner = {
        f"{name}.{key}": value for name, part in row.items() if isinstance(part, dict) for key, value in part.items()
    }
    return {name: value for name, value in row.items() if not isinstance(value, dict)} | inner


def _text(value: Any, column: str | int, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} has no text in column {column!r}, found {value!r:.60}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DataError(f"{where} has half a character (a lone surrogate) in column {column!r}") from None
    return " ".join(value.split("\n")) if "\n" in value else value
