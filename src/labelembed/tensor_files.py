"""Safetensors files: damaged or hostile headers are bounded before parsing; ours are equal for equal content."""

from __future__ import annotations

import json
from pathlib import Path

from labelembed.json_files import refuse_many_values

#: A header of more bytes is refused; that of 50,000 tensors with names of a hundred letters has as many.
HEADER_BYTES = 2**23
#: A header of more tensors is refused: an entry without a shape and with a short name takes ten times its text.
HEADER_TENSORS = 100_000
# A tensor has five texts: its name, three words that say what follows, and its type.
_QUOTES = 10


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
