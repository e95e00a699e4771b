"""Reading files that may be damaged or hostile: memory is taken for bytes that came, never for bytes announced."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError

# The most bytes one array may have. Ten times the largest published set of these formats (EMNIST, 0.6 GiB);
# a small compressed file that unpacks to more is taken for damaged or hostile.
MAXIMUM_BYTES = 8 * 2**30
# Deflate makes a byte into 1,032 at the most, so a small file cannot hold what a huge header announces.
DEFLATE_RATIO = 1032
#: A compressed file that unpacks to more bytes than these, and to more than `UNPACKED_RATIO` times its own, is refused:
#: data of people unpack to five or ten times their file, and what a bomb unpacks to, to a thousand times.
UNPACKED_BYTES = 2**28
UNPACKED_RATIO = 100
_PIECE_BYTES = 2**20


def most_unpacked(packed: int) -> int:
    """Returns to how many bytes a compressed file, or a member of an archive, of `packed` bytes may unpack."""
    return min(MAXIMUM_BYTES, max(UNPACKED_BYTES, UNPACKED_RATIO * packed))


def require_file(path: Path, accepted: str) -> None:
    """Raises DataError unless `path` is a file; `accepted` says what it should be."""
    try:
        if path.is_file():
            return
        kind = "is a folder" if path.is_dir() else "is no ordinary file" if path.exists() else "does not exist"
    except (OSError, ValueError) as error:  # a name too long for the system, or with a zero byte
        kind = f"cannot be read ({error})"
    raise DataError(f"{path}: {kind}; expected {accepted}")


def read_at_most(stream: BinaryIO, limit: int) -> bytearray:
    """Returns the next `limit` bytes, or all there are; memory grows with what really comes."""
    content = bytearray()
    while len(content) < limit:
        piece = stream.read(min(_PIECE_BYTES, limit - len(content)))
        if not piece:
            break
        content += piece
    return content


def require_size(shape: tuple[int, ...], item_bytes: int, where: str) -> int:
    """Returns the bytes that an array of `shape` takes.

    Raises:
        DataError: It is more than `MAXIMUM_BYTES`.
    """
    # a dimension of 0 must not hide another that no array can have
    if math.prod(max(size, 1) for size in shape) * item_bytes > MAXIMUM_BYTES:
        raise DataError(
            f"{where}: its header declares {sizes(shape)} values of {item_bytes} bytes; "
            f"the limit is {MAXIMUM_BYTES // 2**30} GiB"
        )
    return math.prod(shape) * item_bytes


def read_npy(stream: BinaryIO, *, length: int, where: str) -> npt.NDArray[Any]:
    """Returns the array of an npy stream of `length` bytes; Python objects (pickle) are refused unread.

    Args:
        stream: The stream, at its beginning.
        length: Bytes the stream has in all.
        where: Name of the file, or of the file and the array in it, for messages.

    Raises:
        DataError: The stream is no npy array, too short, too long, or holds something else than numbers or text.
    """
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read_header(stream)
        if any(size < 0 for size in shape) or len(shape) > 32:
            raise ValueError(f"shape {shape}")
    except Exception as error:  # a damaged header makes numpy raise nearly anything, SyntaxError included
        # numpy's messages may quote the whole header; one line is enough
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise DataError(f"{where}: expected an npy array, but its header cannot be read ({reason})") from None
    if dtype.hasobject:
        raise DataError(
            f"{where}: holds Python objects (pickle), which are never loaded; save it as an array of numbers"
        )
    if dtype.kind not in "biufSU" or dtype.itemsize == 0:
        raise DataError(f"{where}: expected numbers, found {dtype}")
    declared = require_size(shape, dtype.itemsize, where)
    held = length - stream.tell()
    if declared != held:
        raise DataError(
            f"{where}: expected {declared:,} bytes ({sizes(shape)} of {dtype}), found {held:,}; "
            + ("the file is cut off" if held < declared else "bytes follow the array")
        )
    content = read_at_most(stream, declared)
    if len(content) != declared:
        raise DataError(f"{where}: expected {declared:,} bytes, found {len(content):,}; the file is cut off")
    array: npt.NDArray[Any] = np.frombuffer(content, dtype=dtype)
    array = array.reshape(shape, order="F" if by_columns else "C")
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("=")).reshape(shape)


def sizes(shape: tuple[int, ...]) -> str:
    """Returns a shape for messages: ``60,000 x 28 x 28``."""
    return " x ".join(f"{size:,}" for size in shape) or "1"
