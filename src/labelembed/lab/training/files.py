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

from labelembed.lab.errors import RunFolderError, TrainingError


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
        temporary.unlink(missing_ok=True)  # of a process that was killed, or a link that leads elsewhere
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
        raise RunFolderError(f"{path}: cannot write here ({error.strerror}); {elsewhere(path)}") from error
    free = disk_free(path)
    # A file system that says it has nothing left, and has just been written to, does not count its bytes.
    if free and free < needed_bytes:
        raise RunFolderError(
            f"{path}: the disk has {free / 1e6:,.0f} MB left and the run needs about {needed_bytes / 1e6:,.0f} MB; "
            f"free some space or {elsewhere(path)}"
        )


def elsewhere(folder: Path) -> str:
    """Returns what to do about a folder that cannot be written; a run that has begun there is kept."""
    has_begun = (folder / "recipe.yaml").is_file()  # `resume` has no --out
    return "move the run's folder to another place" if has_begun else "choose another folder with --out"


def disk_free(folder: Path) -> int | None:
    """Returns how many bytes are left where a folder is, or was; None where the file system does not tell."""
    for place in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(place)
            return usage.free if usage.total > 0 else None
    return None


@contextmanager
def saving(folder: Path, *, needed_bytes: int | None = None, way_on: str = "") -> Iterator[None]:
    """Turns a failed save into an error that stops the run and says how to go on; none is swallowed.

    Args:
        folder: The run folder.
        needed_bytes: About how many bytes are written, for the message; None: not known.
        way_on: What to do when it can be saved again; empty: to resume the run.

    Raises:
        TrainingError: In the place of an OSError.
    """
    try:
        yield
    except ConnectionError:  # whoever was told how the run goes has left: no error of the disk
        raise
    except OSError as error:
        elsewhere = error.filename if not str(error.filename or "").startswith(str(folder)) else None
        what = f"cannot save ({error.strerror or error}{f': {elsewhere}' if elsewhere else ''})"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = "" if needed_bytes is None else f"about {needed_bytes:,} bytes are needed and "
            free = disk_free(folder)
            left = "the free space is unknown" if free is None else f"{free:,} bytes are free"
            quota = " (your quota of it is used up)" if error.errno == errno.EDQUOT else ""
            what = f"the disk is full{quota}: {needed}{left}"
        elif not folder.is_dir():
            what += ", the folder is not there any more"
        raise TrainingError(
            f"{folder}: {what}; the last whole checkpoint is kept. "
            + (way_on or f"When it can be saved again: labelembed resume {folder}")
        ) from error
