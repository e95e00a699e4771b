"""One process a folder: what is written into a run, a comparison or a tuning is written by the one with its lock.

The lock is the operating system's own (`flock`), which ends with its process however that ends. Where a file system
has none, the file itself is the lock, and one that a dead process of this machine has left is taken over.
"""

from __future__ import annotations

import contextlib
import errno
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
from labelembed.training.leaving import held_back, keep_when_leaving, remove_when_leaving

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".lock"
# What a file system without locks answers.
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
# For so long a lock may be without the name of a living owner: it has just been taken, or is just being let go.
_NAMELESS_SECONDS = 2.0
_LOOK_SECONDS = 0.05


class _Moved(Exception):  # noqa: N818 - nothing is wrong
    """The file that was locked is no longer the one of that name: its owner was removing it."""


@contextmanager
def locked(
    folder: Path, *, doing: str = "trained", patience: float = 0.0, stop: StopRequest | None = None
) -> Iterator[None]:
    """Has the lock of a folder for the time of the block; of several processes of one run the first one has it.

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
    path = folder / LOCK
    made: list[Path] = []
    taken: list[BaseFileLock] = []
    try:
        try:
            _acquire(path, taken, made, doing, patience, stop)
        except OSError as error:
            raise _unwritable(folder, error) from error
        yield
    finally:
        with held_back():
            for lock in taken:
                _let_go(lock, path)
            for empty in reversed(made):
                with contextlib.suppress(OSError):  # not empty, or gone
                    empty.rmdir()
                keep_when_leaving(empty)


def _unwritable(folder: Path, error: OSError) -> RunFolderError:
    return RunFolderError(f"{folder}: cannot write here ({error.strerror or error}); {elsewhere(folder)}")


def _is_first() -> bool:
    """Tells whether this process is the one that writes, by what its launcher says, for they have not met yet."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def _acquire(
    path: Path, taken: list[BaseFileLock], made: list[Path], doing: str, patience: float, stop: StopRequest | None
) -> None:
    """Takes the lock and notes it in `taken`; notes in `made` the folders that had to be made."""
    import filelock

    began = time.monotonic()
    while True:
        try:
            with held_back():  # what is there is to be known as ours
                _make(path.parent, made)
                taken.append(_taken(path))
                remove_when_leaving(path)
            return
        except (filelock.Timeout, _Moved, FileNotFoundError):  # another has it, or is removing file or folder
            owner = _owner(path)
        waited = time.monotonic() - began
        if waited >= patience + (_NAMELESS_SECONDS if owner is None else 0.0):
            who = "another process" if owner is None else f"process {owner[0]} on {owner[1]}"
            raise RunFolderError(f"{path.parent}: is being {doing} by {who}; wait for it or stop it")
        if stop is not None and stop.requested():
            message = f"stopped while it waited for {path.parent}, which another process is writing"
            raise InterruptedTraining(message, signal_number=stop.signal_number or 2)
        time.sleep(_LOOK_SECONDS)


def _make(folder: Path, made: list[Path]) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:  # another process was faster
            continue
        except FileNotFoundError as error:
            if place.parent.is_dir():  # not that another process is removing it: there can be none, as in /proc
                raise _unwritable(folder, error) from error
            raise
        if place not in made:
            made.append(place)
            remove_when_leaving(place)


def _taken(path: Path) -> BaseFileLock:
    """Takes the lock or raises filelock's Timeout."""
    import filelock

    def sign(handle: int) -> None:
        # Whoever had it before may have removed the file between our opening it and locking it.
        try:
            ours, named = os.fstat(handle), path.stat()
        except FileNotFoundError:
            raise _Moved from None
        if (ours.st_dev, ours.st_ino) != (named.st_dev, named.st_ino):
            raise _Moved
        text = f"{os.getpid()}\n{socket.gethostname()}\n".encode()
        with contextlib.suppress(OSError):  # a full disk: it is locked all the same
            os.ftruncate(handle, 0)
            os.write(handle, text)

    try:
        lock: BaseFileLock = filelock.FileLock(path, timeout=0, on_acquired=sign)
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS or isinstance(error, filelock.Timeout):
            raise
        # It writes and reads the owner's name by itself.
        lock = filelock.SoftFileLock(path, timeout=0)
        lock.acquire()
    return lock


def _owner(path: Path) -> tuple[int, str] | None:
    """Returns process and host that a lock file names; None where it names none, or one of this host that is dead."""
    try:
        process, host = path.read_text(encoding="utf-8", errors="replace").splitlines()[:2]
        number = int(process)
    except (OSError, ValueError):
        return None
    if number < 1 or (host == socket.gethostname() and not _lives(number)):
        return None
    return number, host.split("?")[0]


def _lives(process: int) -> bool:
    if os.name != "posix":  # elsewhere there is no harmless signal
        return True
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def _let_go(lock: BaseFileLock, path: Path) -> None:
    """Removes the file while it is still locked, so that nobody's but our own goes, and lets the lock go."""
    from filelock import UnixFileLock

    with contextlib.suppress(OSError):
        if isinstance(lock, UnixFileLock):  # others remove it themselves
            path.unlink()
    with contextlib.suppress(OSError):
        lock.release()
    keep_when_leaving(path)
