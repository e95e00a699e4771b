"""Writing so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from labelembed.errors import RunFolderError, TrainingError


def sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a whole file under a temporary name, flushes it to the disk and renames it.

    Args:
        path: The file to write or replace.
        content: All of it.
        durable: Wait until the disk has it; a rename alone survives a killed process, not a power cut.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):  # half a file would only fill a full disk further
            temporary.unlink()
        raise


def write_json(path: Path, value: Any, *, durable: bool = True, indent: int | None = 2) -> None:
    """Writes JSON as `write_bytes` does, of long tables without `indent`; a NaN is refused, for it is no JSON."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), durable=durable)


def flush_folder(path: Path) -> None:
    """Waits until the disk knows the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_writable_folder(path: Path, *, needed_bytes: int = 0) -> None:
    """Makes a folder and tries it: a run that could not save must not begin.

    Raises:
        RunFolderError: When it cannot be made or written, or the disk has not `needed_bytes` left.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot write here ({error.strerror}); choose another folder with --out"
        ) from error
    free = shutil.disk_usage(path).free
    if free < needed_bytes:
        raise RunFolderError(
            f"{path}: the disk has {free / 1e6:,.0f} MB left and the run needs about {needed_bytes / 1e6:,.0f} MB; "
            "free some space or choose another folder with --out"
        )


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Turns a failed save into an error that stops the run and says how to go on; none is swallowed."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else f"cannot save ({error.strerror or error})"
        raise TrainingError(
            f"{folder}: {what}; the last whole checkpoint is kept. "
            f"When there is space again: labelembed resume {folder}"
        ) from error
