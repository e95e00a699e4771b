"""One process a folder: a run, a comparison or a tuning is written by the process that holds its lock.

The lock is the operating system's own (`filelock`), which ends with its process however that ends. Its file stays, and
says which process has it, or had it last.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from labelembed.lab.errors import InterruptedTraining, RunFolderError
from labelembed.lab.training.files import elsewhere

LOCK = ".lock"


@contextmanager
def locked(
    folder: Path, *, doing: str = "trained", patience: float = 0.0, stop: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Holds the lock of a folder for the time of the block; of several processes of one run the first one holds it.

    A folder that is not there is made, and removed again where nothing came into it but the lock.

    Args:
        folder: To be written by this process alone.
        doing: What is done to it, for the refusal of others: "is being trained by process ...".
        patience: Seconds to wait for another process that has it.
        stop: Asked while waiting whether to give up.

    Raises:
        RunFolderError: When another process has it, which is named, or the folder cannot be written.
        InterruptedTraining: When it was asked to stop while it waited.
    """
    import filelock

    if os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0":
        yield  # the first of the processes has it
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    lock = filelock.FileLock(folder / LOCK, timeout=patience, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(cancel_check=stop)
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            (folder / LOCK).write_text(f"{os.getpid()}\n{socket.gethostname()}\n", encoding="utf-8")
    except filelock.Timeout:
        if stop():
            message = f"stopped while it waited for {folder}, which another process is writing"
            raise InterruptedTraining(message) from None
        raise RunFolderError(f"{folder}: is being {doing} by {_owner(folder)}; wait for it or stop it") from None
    except OSError as error:
        _remove_where_empty(made)
        raise RunFolderError(f"{folder}: cannot write here ({error.strerror}); {elsewhere(folder)}") from error
    try:
        yield
    finally:
        _remove_where_empty(made)  # while the lock is held: nobody else can have it then
        lock.release()


def _remove_where_empty(made: list[Path]) -> None:
    """Removes the folders that were made, the innermost first, where nothing but the lock has come into them."""
    with contextlib.suppress(OSError):  # not there
        if made and {entry.name for entry in made[0].iterdir()} <= {LOCK}:
            (made[0] / LOCK).unlink(missing_ok=True)
            for folder in made:
                folder.rmdir()


def _owner(folder: Path) -> str:
    """Returns the process that has the lock, as it has written itself into the file."""
    with contextlib.suppress(OSError, ValueError):
        process, host = (folder / LOCK).read_text(encoding="utf-8").splitlines()
        return f"process {int(process)} on {host}"
    return "another process"
