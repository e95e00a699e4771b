"""Files that must be there, and words of messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

from labelembed.errors import DataError

#: How a gzip'd file begins.
GZIP_MAGIC = b"\x1f\x8b"


def content_of(path: Path) -> bytes:
    """Returns the content of a file, unpacked where it begins as a gzip'd one; raises DataError."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip is cut off or damaged ({error}); fetch the file again") from None


def require_file(path: Path, accepted: str) -> None:
    """Raises DataError unless `path` is a file; `accepted` says what it should be."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no ordinary file" if path.exists() else "does not exist"
        raise DataError(f"{path}: {kind}; expected {accepted}")


def sizes(shape: tuple[int, ...]) -> str:
    """Returns a shape for messages: ``60,000 x 28 x 28``."""
    return " x ".join(f"{size:,}" for size in shape) or "1"


def printable(name: str) -> str:
    """Returns a name found in a user's file as it may stand in a message of one line."""
    return name if name.isprintable() else repr(name)


def counted(number: int, what: str) -> str:
    """Returns a number of things for messages: ``1 example``, ``1,234 examples``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def few(names: Sequence[str], most: int = 8) -> str:
    """Returns the first of several names for a message: ``cat, dog and 3 more``."""
    shown = ", ".join(printable(name[:120]) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown
