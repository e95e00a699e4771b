"""The idx format of the MNIST family: a header of sizes, then the numbers, often gzip'd."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from labelembed.data.streams import DEFLATE_RATIO, most_unpacked, read_at_most, require_file, require_size, sizes
from labelembed.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
# third byte of the header -> the numbers that follow, most significant byte first
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMENSIONS = 8


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Returns the array of an idx file, plain or gzip'd; which one is seen from the content, not from the name.

    Nothing is allocated on the word of the header: a plain file must have exactly the length declared, and of
    a gzip'd one no more is unpacked than the declared length and one byte. 8 GiB is the most that is read.

    Args:
        path: The file.

    Returns:
        The array in the shape declared and this machine's byte order: uint8, int8, int16, int32, float32 or
        float64.

    Raises:
        DataError: There is no such file, it is no idx file, cut off, too long or damaged.
    """
    path = Path(path)
    require_file(path, "an idx file")
    try:
        with path.open("rb") as file:
            packed_bytes = os.fstat(file.fileno()).st_size
            zipped = file.read(2) == GZIP_MAGIC
            file.seek(0)
            if zipped:
                with gzip.GzipFile(fileobj=file) as stream:
                    return _read_array(cast(BinaryIO, stream), path, packed_bytes, zipped=True)
            return _read_array(file, path, packed_bytes, zipped=False)
    except EOFError:
        raise DataError(
            f"{path}: the gzip stream ends before its end mark, {packed_bytes:,} bytes into the file; "
            "the file is cut off, so fetch it again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error}); fetch the file again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def looks_like_idx(beginning: bytes) -> bool:
    """Returns whether a file that begins with these four bytes or more can be a plain idx file."""
    return (
        len(beginning) >= 4
        and beginning[:2] == b"\x00\x00"
        and beginning[2] in _DTYPES
        and 1 <= beginning[3] <= _MOST_DIMENSIONS
    )


def _read_array(stream: BinaryIO, path: Path, file_bytes: int, *, zipped: bool) -> npt.NDArray[Any]:
    """Reads header and numbers of a file of so many bytes."""
    most_bytes = file_bytes * DEFLATE_RATIO if zipped else file_bytes
    magic = bytes(read_at_most(stream, 4))
    if not looks_like_idx(magic):
        raise DataError(
            f"{path}: expected an idx file, whose first bytes are 00 00, a type of 08 to 0e and 1 to "
            f"{_MOST_DIMENSIONS} dimensions; found {magic.hex(' ') or 'an empty file'}"
        )
    dtype, dimensions = np.dtype(_DTYPES[magic[2]]), magic[3]
    header = bytes(read_at_most(stream, 4 * dimensions))
    if len(header) < 4 * dimensions:
        raise DataError(
            f"{path}: expected a header of {4 + 4 * dimensions} bytes for {dimensions} dimensions, "
            f"found {4 + len(header)}; the file is cut off"
        )
    shape = tuple(int(size) for size in np.frombuffer(header, dtype=">u4"))
    declared = math.prod(shape) * dtype.itemsize
    held = most_bytes - len(magic) - len(header)
    what = f"{declared:,} bytes of values ({sizes(shape)} of {dtype.name})"
    if declared > held:
        found = f"{held:,}" if not zipped else f"a gzip stream that can hold {held:,} at the most"
        raise DataError(f"{path}: expected {what}, found {found}; the file is cut off or its header is wrong")
    require_size(shape, dtype.itemsize, str(path))
    if zipped and declared > most_unpacked(file_bytes):
        raise DataError(
            f"{path}: {file_bytes:,} bytes would unpack to {declared:,}, more than any data do; unpack it yourself if "
            "they are right"
        )
    content = read_at_most(stream, declared + 1)  # reading over the end also compares gzip's check sum
    if len(content) != declared:
        found = f"{len(content):,}" if len(content) < declared else "more"
        reason = "the file is cut off" if len(content) < declared else "bytes follow the array"
        raise DataError(f"{path}: expected {what}, found {found}; {reason}")
    array: npt.NDArray[Any] = np.frombuffer(content, dtype=dtype)
    return array.reshape(shape).astype(dtype.newbyteorder("="), copy=False)
