"""One process a folder: a run, a comparison or a tuning is written by the process that holds its lock.

The lock is the operating system's own (`filelock`), which ends with its process however that ends. Its file stays, and
says which process has it, or had it last.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from labelembed.errors import InterruptedTraining, RunFolderError
from labelembed.training.files import elsewhere
from labelembed.training.interruption import StopRequest

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
_LOOK_SECONDS = 0.05


@contextmanager
def locked(
    folder: Path, *, doing: str = "trained", patience: float = 0.0, stop: StopRequest | None = None
) -> Iterator[None]:
    """Holds the lock of a folder for the time of the block; of several processes of one run the first one holds it.

    A folder that is not there is made, and removed again where nothing came into it.

    Args:
        folder: To be written by this process alone.
        doing: What is done to it, for the refusal of others: "is being trained by process ...".
        patience: Seconds to wait for another process that has it.
        stop: Asked while waiting whether to give up.

    Raises:
        RunFolderError: When another process has it, which is named, or the folder cannot be written.
        InterruptedTraining: When it was asked to stop while it waited.
    """
    if not _is_first():
        yield
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        lock = _acquired(folder, doing, time.monotonic() + patience, stop)
        try:
            yield
        finally:
            lock.release()
    finally:
        _remove_where_empty(folder, made)


def _acquired(folder: Path, doing: str, until: float, stop: StopRequest | None) -> BaseFileLock:
    """Returns the lock of a folder, taken."""
    import filelock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK, timeout=0)
        while True:
            with contextlib.suppress(filelock.Timeout):
                lock.acquire()
                break
            if time.monotonic() >= until:
                raise RunFolderError(f"{folder}: is being {doing} by {_owner(folder)}; wait for it or stop it")
            if stop is not None and stop.requested():
                message = f"stopped while it waited for {folder}, which another process is writing"
                raise InterruptedTraining(message, signal_number=stop.signal_number or 2)
            time.sleep(_LOOK_SECONDS)
    except (OSError, NotImplementedError) as error:  # the second: a file system without locks
        reason = f"cannot write here ({getattr(error, 'strerror', None) or error})"
        raise RunFolderError(f"{folder}: {reason}; {elsewhere(folder)}") from error
    with contextlib.suppress(OSError):  # a full disk: it is locked all the same
        (folder / LOCK).write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    return lock


def _remove_where_empty(folder: Path, made: list[Path]) -> None:
    """Removes the folders that were made, where nothing came into them but the lock."""
    with contextlib.suppress(OSError):  # not there
        if made and [entry.name for entry in folder.iterdir()] in ([LOCK], []):
            (folder / LOCK).unlink(missing_ok=True)
            for empty in made:
                empty.rmdir()


def _is_first() -> bool:
    """Tells whether this process is the one that writes, by what its launcher says, for they have not met yet."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _owner(folder: Path) -> str:
    """Returns the process that has the lock, as it has written itself into the file."""
    with contextlib.suppress(OSError, ValueError):
        process, host = (folder / LOCK).read_text(encoding="utf-8").splitlines()[:2]
        return f"process {int(process)} on {host.split('?')[0]}"
    return "another process"
