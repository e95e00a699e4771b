"""The idx format of the MNIST family: a header of sizes, then the numbers, often gzip'd."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelembed.errors import DataError
from labelembed.lab.data.checks import content_of, require_file, sizes

# third byte of the header -> the numbers that follow, most significant byte first
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: Path) -> npt.NDArray[Any]:
    """Returns the array of an idx file, plain or gzip'd; which one is seen from the content, not from the name.

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
    content = content_of(path)
    begin = 4 + 4 * content[3] if looks_like_idx(content) else 0
    if not begin or len(content) < begin:
        found = content[:4].hex(" ") or "an empty file"
        raise DataError(f"{path}: is no idx file, or cut off within its header; it begins with {found}")
    dtype = np.dtype(_DTYPES[content[2]])
    shape = tuple(np.frombuffer(content[4:begin], dtype=">u4").tolist())
    declared, held = math.prod(shape) * dtype.itemsize, len(content) - begin
    if declared != held:
        reason = "the file is cut off or its header is wrong" if held < declared else "bytes follow the array"
        what = f"{declared:,} bytes of values ({sizes(shape)} of {dtype.name})"
        raise DataError(f"{path}: expected {what}, found {held:,}; {reason}")
    array: npt.NDArray[Any] = np.frombuffer(content, dtype=dtype, offset=begin).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def looks_like_idx(beginning: bytes) -> bool:
    """Returns whether a file that begins with these four bytes or more can be a plain idx file."""
    return len(beginning) >= 4 and beginning[:2] == b"\x00\x00" and beginning[2] in _DTYPES and 1 <= beginning[3] <= 8
