"""JSON of files that may be damaged or hostile: refused by its length and its number of values before it is parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labelembed.errors import DataError

#: A file of more bytes is refused; the largest that is written holds the names of a million labels.
MAXIMUM_BYTES = 2**26
#: JSON of more values is refused: "[],[],[]" takes thirty times its length in memory, so that this is about 500 MB.
MAXIMUM_VALUES = 4_000_000


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
