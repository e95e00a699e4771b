"""Files that may be damaged or hostile: digests, and JSON and safetensors refused by size before they are parsed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

#: JSON of more bytes is refused; the largest that is written holds the names of a million labels.
MAXIMUM_BYTES = 2**26
#: JSON of more values is refused: "[],[],[]" takes thirty times its length in memory, so that this is about 500 MB.
MAXIMUM_VALUES = 4_000_000
#: A header of more bytes is refused; that of 50,000 tensors with names of a hundred letters has as many.
HEADER_BYTES = 2**23
#: A header of more tensors is refused: an entry without a shape and with a short name takes ten times its text.
HEADER_TENSORS = 100_000


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds; raises OSError, or in one line ValueError: no JSON, too large, too deep."""
    return parse_json(read_bounded(path))


def read_bounded(path: Path) -> bytes:
    """Returns the bytes of a JSON file; raises OSError, or ValueError where it is too large to be parsed."""
    with path.open("rb") as file:
        content = file.read(MAXIMUM_BYTES + 1)  # of a pipe or a device nobody knows the length
    _refuse_more("bytes", len(content), MAXIMUM_BYTES)
    _refuse_more("values", _values(content), MAXIMUM_VALUES)
    return content


def parse_json(content: bytes | str) -> Any:
    """Returns what JSON holds; raises ValueError, in one line, where it is none or nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def require_header(path: Path, *, most: int = HEADER_BYTES) -> None:
    """Raises OSError, or ValueError where a safetensors file's header has more than `most` bytes or is too costly."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        _refuse_more("bytes of header", length, most)
        header = file.read(length)
    # A tensor has ten quotes around five texts; one within a text, as in a list of labels, has a backslash before it.
    _refuse_more("tensors", (header.count(b'"') - header.count(b'\\"')) // 10, HEADER_TENSORS)
    _refuse_more("values", _values(header), MAXIMUM_VALUES)


def _values(content: bytes) -> int:
    return sum(map(content.count, (b",", b"[", b"{")))


def _refuse_more(what: str, count: int, most: int) -> None:
    if count > most:
        raise ValueError(f"more than {most:,} {what}, which no such file has")
