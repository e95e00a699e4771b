"""Lines of text files, and pairs of lines: two line-aligned files, or one file with two columns."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from labelembed.errors import DataError, nearest
from labelembed.lab.data.checks import GZIP_MAGIC, few, require_file

if TYPE_CHECKING:
    import pandas as pd

#: A file with a longer line is refused: it is no text with a sentence a line.
MAXIMUM_LINE_BYTES = 2**20
ACCEPTED = "two text files of the same number of lines, or one file of pairs (.tsv, .csv, .jsonl, .parquet)"
_COLUMN_NAMES = {
    "source": ("source", "src", "input", "text", "document", "article"),
    "target": ("target", "tgt", "trg", "output", "translation", "reference", "summary"),
}
_PAIRS_A_BLOCK = 1_000  # so few that long documents fit into memory as well
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Called with how many bytes of a file (as they lie on the disk) were read since the last call.
BytesRead = Callable[[int], None]
#: Source lines and as many target lines.
PairBlock = tuple[list[str], list[str]]


def read_lines(path: Path, *, bytes_read: BytesRead | None = None) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 text file, plain or gzipped, without their line ends.

    Lines end with ``\n`` or ``\r\n`` and with nothing else, so that two files stay aligned whatever stands in them.

    Raises:
        DataError: The file is missing or damaged, is not UTF-8, or has a line that is far too long; names the line.
    """
    path = Path(path)
    require_file(path, "a text file, plain or gzipped")
    number = reported = 0
    try:
        with path.open("rb") as file:
            is_zipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_zipped else file
            while line := stream.readline(MAXIMUM_LINE_BYTES + 2):
                number += 1
                line = line.removesuffix(b"\r\n").removesuffix(b"\n")
                if len(line) > MAXIMUM_LINE_BYTES:
                    limit = f"{MAXIMUM_LINE_BYTES:,} bytes, the limit of a line"
                    raise DataError(f"{path}: line {number:,} is longer than {limit}; is it a sentence a line?")
                yield (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).decode()
                if bytes_read is not None and number % 1_000 == 0:
                    bytes_read(file.tell() - reported)
                    reported = file.tell()
            if bytes_read is not None:
                bytes_read(file.tell() - reported)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line {number:,} is not UTF-8 ({error}); convert it with iconv -t UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip is cut off or damaged after line {number:,} or so ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


@dataclass(frozen=True)
class PairFiles:
    """Where the pairs of a split are.

    Args:
        source: The file of the source lines, or the one file of pairs, which is read as a whole.
        target: The file of the target lines; None for a file of pairs.
        source_column: In a file of pairs the column of the source: its name, ``translation.en`` for a key within a
            column, or its number from 1 in a table without a heading; None: found by the usual names.
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
        """Yields the pairs, a thousand at a time.

        Raises:
            DataError: A file cannot be read, is empty, the files have different numbers of lines, or a row has not
                both texts; names file and line.
        """
        pairs = self._of_one_file() if self.target is None else self._of_two_files(bytes_read)
        is_empty = True
        while block := list(islice(pairs, _PAIRS_A_BLOCK)):
            is_empty = False
            yield [source for source, _ in block], [target for _, target in block]
        if is_empty:
            raise DataError(f"{self.source}: is empty; expected a line a sentence")

    def _of_two_files(self, bytes_read: BytesRead | None) -> Iterator[tuple[str, str]]:
        pairs = zip_longest(*(read_lines(path, bytes_read=bytes_read) for path in self.files))
        for number, (line, other) in enumerate(pairs):
            if line is None or other is None:
                longer = number + 1 + sum(1 for _ in pairs)
                counts = (number, longer) if line is None else (longer, number)
                raise DataError(
                    f"{self.source} has {counts[0]:,} lines and {self.target} has {counts[1]:,}; line-aligned files "
                    "have the same number, each line of one the translation of that line of the other"
                )
            yield line, other

    def _of_one_file(self) -> Iterator[tuple[str, str]]:
        table = _read_table(self.source, has_heading=not (self.source_column or "").isdigit())
        names = [str(name) for name in table.columns]
        columns = []
        for side, given in (("source", self.source_column), ("target", self.target_column)):
            usual = (name for word in _COLUMN_NAMES[side] for name in names if name.lower() == word)
            column, _, key = (given or next(usual, "")).partition(".")
            if given in names:
                column, key = str(given), ""
            if column not in names:
                unclear = f"the column of the {side} is unclear"
                lacks = f"no column {column!r}{nearest(column, names)}" if given else unclear
                way_out = f"name it by --{side}-column, by its number where there is no heading"
                raise DataError(f"{self.source}: {lacks}; {way_out}; there are: {few(names)}")
            values = table.iloc[:, names.index(column)]
            columns.append(values.str[key] if key else values)
        for row, pair in enumerate(zip(*columns, strict=True), start=1):
            for value in pair:
                if not isinstance(value, str) or value != value.encode(errors="replace").decode():
                    raise DataError(f"{self.source}: row {row:,} must have a source and a target text, found {value!r}")
            source, target = (" ".join(value.split("\n")) for value in pair)
            yield source, target


def _read_table(file: Path, *, has_heading: bool) -> pd.DataFrame:
    """Returns the table of a file of pairs; columns without a heading are called by their numbers from 1."""
    import pandas as pd

    require_file(file, ACCEPTED)
    suffix = Path(file.name.lower().removesuffix(".gz")).suffix
    tabs: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if suffix != ".csv" else {}
    try:
        if suffix in (".jsonl", ".ndjson"):
            return pd.read_json(file, lines=True, dtype=False)
        if suffix == ".parquet":
            return pd.read_parquet(file)
        if suffix not in (".tsv", ".txt", ".csv"):
            raise DataError(f"{file}: one file must have two columns; expected {ACCEPTED}")
        rows = [row for row in csv.reader((f"{line}\n" for line in read_lines(file)), **tabs) if row]
        for number, row in enumerate(rows, start=1):
            if len(row) != len(rows[0]):
                raise DataError(f"{file}: row {number:,} has {len(row)} columns, the first has {len(rows[0])}")
        numbers = [str(number + 1) for number in range(len(rows[0]))] if rows else []
        return pd.DataFrame(rows[has_heading:], columns=rows[0] if rows and has_heading else numbers)
    except (ValueError, OSError, EOFError, zlib.error, ImportError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as {suffix} ({' '.join(str(error)[:200].split())})") from None
