"""Lines of a text file, plain or gzipped, in blocks: no more than a few megabytes are in memory at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from labelembed.errors import DataError
from labelembed.lab.data.checks import GZIP_MAGIC, require_file

#: A file with a line of more than twice as many bytes is refused: it is no text with a sentence a line.
MAXIMUM_LINE_BYTES = 2**20
_BLOCK_BYTES = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: Called with how many bytes of the file (as they lie on the disk) were read since the last call.
BytesRead = Callable[[int], None]


def line_blocks(path: Path, *, bytes_read: BytesRead | None = None) -> Iterator[list[str]]:
    r"""Yields the lines of a UTF-8 text file, some thousands at a time, without their line ends.

    Lines end with ``\n`` or ``\r\n`` and with nothing else, so that two files stay aligned whatever stands in them.
    Whether the file is gzipped is seen from its content.

    Args:
        path: The file.
        bytes_read: Told how the reading goes on.

    Raises:
        DataError: The file is missing or damaged, is not UTF-8, or has a line that is far too long;
            names file and line.
    """
    path = Path(path)
    require_file(path, "a text file, plain or gzipped")
    before = 0  # lines of the blocks before
    rest = b""
    with _opened(path) as (stream, raw):
        position = 0
        first = True
        while True:
            piece = _read(stream, path, before)
            if bytes_read is not None:
                bytes_read(raw.tell() - position)
                position = raw.tell()
            if first:
                piece, first = piece.removeprefix(_BYTE_ORDER_MARK), False
            content = rest + piece
            end = content.rfind(b"\n") + 1 if piece else len(content)
            rest = content[end:]
            if end:
                lines = _decoded(content[:end], path, before)
                before += len(lines)
                yield lines
            if len(rest) > MAXIMUM_LINE_BYTES:
                raise DataError(
                    f"{path}: line {before + 1:,} is longer than {MAXIMUM_LINE_BYTES:,} bytes, the limit of a line; "
                    "is it a text with a sentence a line?"
                )
            if not piece:
                return


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Gives the stream of the text and that of the file as it lies on the disk."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    with raw:
        zipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        yield (cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if zipped else raw), raw


def _read(stream: IO[bytes], path: Path, before: int) -> bytes:
    try:
        return stream.read(_BLOCK_BYTES)
    except EOFError:
        raise DataError(f"{path}: the gzip file is cut off after line {before:,} or so") from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip file is damaged after line {before:,} or so ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _decoded(content: bytes, path: Path, before: int) -> list[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        wrong = before + content.count(b"\n", 0, error.start) + 1
        column = error.start - (content.rfind(b"\n", 0, error.start) + 1)
        raise DataError(
            f"{path}: line {wrong:,} is not UTF-8 (byte 0x{content[error.start]:02x} at place {column + 1:,}); "
            "convert the file, for instance with iconv -t UTF-8"
        ) from None
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    return text.removesuffix("\n").split("\n")
