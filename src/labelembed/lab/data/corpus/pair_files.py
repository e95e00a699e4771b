"""Lines of text files, and pairs of lines: two line-aligned files, or one of JSON lines."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any, cast

from labelembed.errors import DataError
from labelembed.lab.data.checks import GZIP_MAGIC, require_file

#: A file with a longer line is refused: it is no text with a sentence a line.
MAXIMUM_LINE_BYTES = 2**20
ACCEPTED = "two text files of the same number of lines, or one .jsonl file with source and target"
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
        source: The file of the source lines, or the one file of pairs, an object a line.
        target: The file of the target lines; None for a file of pairs.
        source_column: In a file of pairs the key of the source, ``translation.en`` for a key within a key; None:
            ``source``.
        target_column: The same of the target; None: ``target``.
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
            DataError: A file cannot be read, is empty, the files have different numbers of lines, or a line has not
                both texts; names file and line.
        """
        pairs = self._of_one_file(bytes_read) if self.target is None else self._of_two_files(bytes_read)
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

    def _of_one_file(self, bytes_read: BytesRead | None) -> Iterator[tuple[str, str]]:
        if not self.source.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")):
            raise DataError(f"{self.source}: one file must be JSON lines; expected {ACCEPTED}")
        for number, line in enumerate(read_lines(self.source, bytes_read=bytes_read), start=1):
            if line.strip():
                where = f"{self.source}: line {number:,}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{where} is no JSON ({error})") from None
                yield _text(row, self.source_column, "source", where), _text(row, self.target_column, "target", where)


def _text(row: Any, column: str | None, side: str, where: str) -> str:
    value, name = row, column or side
    for key in [name] if isinstance(row, dict) and name in row else name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, str) or value != value.encode(errors="replace").decode():
        raise DataError(f"{where} has no text in {name!r}, found {row!r:.80}; --{side}-column names another column")
    return value.replace("\n", " ")
