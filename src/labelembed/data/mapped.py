"""Arrays too large for the memory: they lie in a file, and the system reads in what is looked at."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: Rows that take more bytes than this lie in a file of the cache's folder instead of in memory.
MAPPED_ABOVE_BYTES = 2 * 2**30

Array = npt.NDArray[Any]


def reserve(file: Path, size: int) -> None:
    """Makes `file` as long as `size` bytes, with room on the disk for all of them.

    A mapped file without that room would end the process with a bus error where the disk fills up.

    Raises:
        OSError: There is no room.
    """
    with file.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            stream.truncate(size)


def mapped_rows(shape: tuple[int, ...], dtype: npt.DTypeLike, folder: Path) -> Array:
    """Returns an array in a nameless file of `folder`, which goes when the array does.

    Raises:
        OSError: The folder cannot be written, or the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".rows-", dir=folder)
    os.close(descriptor)
    file = Path(name)
    try:
        reserve(file, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    finally:
        with contextlib.suppress(OSError):  # where an open file cannot be removed it stays
            file.unlink()
