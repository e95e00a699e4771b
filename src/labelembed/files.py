"""JSON and safetensors files that may be damaged or hostile: refused by their size before they are parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelembed.errors import DataError

#: A file of more bytes is refused; the largest that is written holds the names of a million labels.
MAXIMUM_BYTES = 2**26
#: JSON of more values is refused: "[],[],[]" takes thirty times its length in memory, so that this is about 500 MB.
MAXIMUM_VALUES = 4_000_000
#: A header of more bytes is refused; that of 50,000 tensors with names of a hundred letters has as many.
HEADER_BYTES = 2**23
#: A header of more tensors is refused: an entry without a shape and with a short name takes ten times its text.
HEADER_TENSORS = 100_000
# A tensor has five texts: its name, three words that say what follows, and its type.
_QUOTES = 10


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, too large, or nested too deeply; one line.
    """
    return parse_json(read_bounded(path))


def read_mapping(path: Path) -> dict[str, Any]:
    """Returns the object that a user's JSON file holds; raises DataError when it holds anything else."""
    try:
        mapping = read_json(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read as JSON ({reason})") from error
    if not isinstance(mapping, dict) or not mapping:
        raise DataError(f'{path}: must hold a JSON object {{"name": value, ...}}')
    return mapping


def read_bounded(path: Path) -> bytes:
    """Returns the bytes of a file that is not too large to be parsed.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too large.
    """
    with path.open("rb") as file:
        content = file.read(MAXIMUM_BYTES + 1)  # of a pipe or a device nobody knows the length
    if len(content) > MAXIMUM_BYTES:
        raise ValueError(f"larger than {MAXIMUM_BYTES:,} bytes, which no such file is")
    refuse_many_values(content)
    return content


def refuse_many_values(content: bytes) -> None:
    """Raises ValueError, in one line, where JSON has more than `MAXIMUM_VALUES` values."""
    if sum(map(content.count, (b",", b"[", b"{"))) > MAXIMUM_VALUES:
        raise ValueError(f"more than {MAXIMUM_VALUES:,} values, which no such file has")


def parse_json(content: bytes | str) -> Any:
    """Returns what JSON holds; raises ValueError, in one line, where it is none or nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def require_header(path: Path, *, most: int = HEADER_BYTES) -> None:
    """Refuses a safetensors file by its header, before the library parses it.

    Args:
        path: The file.
        most: Bytes the header may have; more than usual where names of labels stand in it.

    Raises:
        OSError: The file cannot be read.
        ValueError: The header is too long, or has too many entries; one line.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > most:
            raise ValueError(f"a header of {length:,} bytes, more than {most:,}, which no such file has")
        header = file.read(length)
    # A quote within a text, as around each name of a list of labels, has a backslash before it.
    quotes = header.count(b'"') - header.count(b'\\"')
    if quotes > _QUOTES * HEADER_TENSORS:
        raise ValueError(f"a header of more than {HEADER_TENSORS:,} tensors, which no such file has")
    refuse_many_values(header)


def with_sorted_header(content: bytes) -> bytes:
    """Returns a safetensors file with its header in sorted order: the library writes metadata in any order.

    Equal content then gives equal bytes, so that the SHA-256 of a file says whether it is the same.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
