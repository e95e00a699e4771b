"""What a run says while another process makes it, in a file of its folder: the last words of one that is killed."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

LOG_FILE = "worker.log"
_TAIL_BYTES = 32_000  # of a log so much is read
_LINES, _LINE_LETTERS = 3, 100
_BEGUN = ": started in process "
_FAULT = "Fatal Python error: "  # so begins what `faulthandler` writes
_NO_NEWS = "(most recent call first)"  # a heading of it


def opened_log(path: Path | None) -> BinaryIO:
    """Opens the log of a run, to write at its end; what cannot be written, or is a link, is written nowhere.

    The run itself will say what is wrong with its folder.
    """
    if path is not None and not path.is_symlink():
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab", buffering=0)
    return Path(os.devnull).open("ab", buffering=0)


def note(log: BinaryIO, text: str) -> None:
    """Writes a line with the time to a log."""
    with contextlib.suppress(OSError):  # a full disk: the next save says so
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())


@contextlib.contextmanager
def logged(path: Path | None, name: str) -> Iterator[Callable[[str], None]]:
    """Notes that an attempt at a run begins, and a crash in the block; gives what notes more lines."""
    with opened_log(path) as log:
        note(log, f"{name}{_BEGUN}{os.getpid()} on {platform.node()}")
        if path is not None:
            faulthandler.enable(log, all_threads=False)
        try:
            yield partial(note, log)
        finally:
            if path is not None:
                faulthandler.disable()


def with_last_lines(message: str, path: Path | None) -> str:
    """Returns the first line of why a run failed, with the last lines of its log's last attempt, in one line.

    Of a crash they are the first that tell of it: what it was, and where, the innermost call first.
    """
    first = (message.splitlines() or ["no reason"])[0]
    try:
        with (path or Path(os.devnull)).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return first
    lines = ["".join(letter if letter.isprintable() else " " for letter in line).strip() for line in text.split("\n")]
    said = [line[:_LINE_LETTERS] for line in lines if line and not line.endswith(f"{_NO_NEWS}:")]
    said = said[max((place for place, line in enumerate(said) if _BEGUN in line), default=0) :]
    error = next((place for place, line in enumerate(said) if line.startswith(_FAULT)), None)
    shown = said[-_LINES:] if error is None else said[error:][:_LINES]
    return f"{first}; the last lines of its {LOG_FILE}: {' | '.join(shown)}" if shown else first
