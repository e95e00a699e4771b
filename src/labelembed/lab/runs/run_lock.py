"""One process a folder: a run or a comparison is written by the process that holds its lock.

The lock is the operating system's own (`filelock`), which ends with its process however that ends. Its file stays, and
says which process has it, or had it last.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labelembed.lab.errors import RunFolderError
from labelembed.lab.training.device import process_index

LOCK = ".lock"


@contextmanager
def locked(folder: Path, *, doing: str = "trained", patience: float = 0.0) -> Iterator[None]:
    """Holds the lock of a folder for the time of the block; of several processes of one run the first one holds it.

    A folder that is not there is made, and removed again where nothing came into it but the lock. Raises RunFolderError
    when another process has it after `patience` seconds ("is being `doing` by process ..."), or it cannot be written.
    """
    import filelock

    if process_index() > 0:
        yield  # the first of the processes has it
        return
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = filelock.FileLock(folder / LOCK, timeout=patience, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout:
        text = (folder / LOCK).read_text(encoding="utf-8", errors="replace").strip()
        owner = f"process {text}" if re.fullmatch(r"\d+ on \S+", text) else "another process"
        raise RunFolderError(f"{folder}: is being {doing} by {owner}; wait for it or stop it") from None
    except OSError as error:
        _remove_where_empty(missing)
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror}); choose another with --out") from error
    try:
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            (folder / LOCK).write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
        yield
    finally:
        _remove_where_empty(missing)  # while this process still holds the lock
        lock.release()


def _remove_where_empty(made: list[Path]) -> None:
    """Removes the folders that were made, the innermost first, where nothing but the lock has come into them."""
    with contextlib.suppress(OSError):  # not there, or not empty
        if made and {entry.name for entry in made[0].iterdir()} <= {LOCK}:
            (made[0] / LOCK).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()
