"""Lines of text files, and pairs of lines of two files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, cast

from labelembed.errors import DataError
from labelembed.lab.data.checks import GZIP_MAGIC, require_file

_PAIRS_AT_ONCE = 1_000  # so few that long documents fit into memory as well


def read_lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 text file, plain or gzipped; they end with ``\n`` or ``\r\n`` and nothing else.

    Raises DataError where the file is missing, damaged or not UTF-8; names the line.
    """
    require_file(path, "a text file, plain or gzipped")
    number = 0
    try:
        with path.open("rb") as file:
            is_zipped = file.peek(2).startswith(GZIP_MAGIC)
            stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_zipped else file
            for number, line in enumerate(stream, start=1):
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: line {number:,} is not UTF-8 ({error}); convert it with iconv -t UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip is cut off or damaged after line {number:,} or so ({error})") from None


class PairFiles(NamedTuple):
    """Where the pairs of a split are: a file of source lines, and one of as many target lines."""

    source: Path
    target: Path

    def blocks(self) -> Iterator[tuple[list[str], list[str]]]:
        """Yields source lines and target lines, a thousand at a time; raises DataError with file and line."""
        pairs = zip(read_lines(self.source), read_lines(self.target), strict=True)
        try:
            while block := list(islice(pairs, _PAIRS_AT_ONCE)):
                yield [source for source, _ in block], [target for _, target in block]
        except ValueError:
            counts = " and ".join(f"{sum(1 for _ in read_lines(file)):,}" for file in self)
            raise DataError(f"{self.source} and {self.target} must have equally many lines, not {counts}") from None
