"""Lines of text files, and pairs of lines: two line-aligned files, or one of JSON lines."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

from labelembed.errors import DataError
from labelembed.lab.data.checks import GZIP_MAGIC, require_file

#: A file with a longer line is refused: it is no text with a sentence a line.
MAXIMUM_LINE_BYTES = 2**20
ACCEPTED = "two text files of the same number of lines, or one .jsonl file with source and target"
_PAIRS_AT_ONCE = 1_000  # so few that long documents fit into memory as well

#: Called with how many bytes of a file, as they lie on the disk, were read since the last call.
BytesRead = Callable[[int], None]


def read_lines(path: Path, *, bytes_read: BytesRead = lambda count: None) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 text file, plain or gzipped; they end with ``\n`` or ``\r\n`` and nothing else.

    Raises:
        DataError: The file is missing or damaged, is not UTF-8, or has a line that is far too long; names the line.
    """
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
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                if number % 1_000 == 0:
                    bytes_read(file.tell() - reported)
                    reported = file.tell()
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
        source: The file of the source lines, or the one file of pairs, an object a line.
        target: The file of the target lines; None for a file of pairs.
        source_column: Key of the source in a file of pairs, ``translation.en`` for a key within a key.
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

    def blocks(self, *, bytes_read: BytesRead = lambda count: None) -> Iterator[tuple[list[str], list[str]]]:
        """Yields source lines and target lines, a thousand at a time; raises DataError with file and line."""
        pairs = self._of_one_file(bytes_read) if self.target is None else self._of_two_files(bytes_read)
        while block := list(islice(pairs, _PAIRS_AT_ONCE)):
            yield [source for source, _ in block], [target for _, target in block]

    def _of_two_files(self, bytes_read: BytesRead) -> Iterator[tuple[str, str]]:
        try:
            yield from zip(*(read_lines(path, bytes_read=bytes_read) for path in self.files), strict=True)
        except ValueError:
            raise DataError(
                f"{self.source} and {self.target} differ in their number of lines; each line of one is the translation "
                "of that line of the other"
            ) from None

    def _of_one_file(self, bytes_read: BytesRead) -> Iterator[tuple[str, str]]:
        if not self.source.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            raise DataError(f"{self.source}: one file must be JSON lines; expected {ACCEPTED}")
        for number, line in enumerate(read_lines(self.source, bytes_read=bytes_read), start=1):
            if not line.strip():
                continue
            where = f"{self.source}: line {number:,}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where} is no JSON ({error})") from None
            names = (self.source_column or "source", self.target_column or "target")
            yield _text(row, names[0], where), _text(row, names[1], where)


def _text(row: Any, name: str, where: str) -> str:
    value = row
    for key in [name] if isinstance(row, dict) and name in row else name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str) or value != value.encode(errors="replace").decode():
        way_out = "--set source_column=NAME and target_column=NAME name other columns"
        raise DataError(f"{where} has no text in {name!r}, found {row!r:.80}; {way_out}")
    return value.replace("\n", " ")
