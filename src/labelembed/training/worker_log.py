"""What a worker process writes while it makes a run, kept beside the run: the last word of one that is killed."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from labelembed.training.progress import Progress

LOG_FILE = "worker.log"
# Of an old log so much is kept; one that has grown to twice as much is cut.
_KEPT_BYTES = 32_000
_LINES, _LINE_LETTERS = 3, 100
# So begins what `faulthandler` writes, so the thread of the fault, and so its last line, on any version of Python.
_FAULT, _FAULT_THREAD = "Fatal Python error: ", "Current thread "
_FAULT_ENDS = ("Extension modules: ", "File ", "Binary file ", "<")
# Output is a process' own: of two runs in one, as threads make them, the first one's is kept.
_IN_USE = threading.Lock()


@contextlib.contextmanager
def output_kept(path: Path | None, name: str) -> Iterator[bool]:
    """Sends what this process writes to its standard output and error into a file, for the time of the block.

    Libraries written in C are heard too. Where the file cannot be written nothing is kept: the run itself will say what
    is wrong with its folder. The block is given whether anything is kept.

    Args:
        path: The file, to whose end it is written; None: nothing is kept.
        name: Of the run.
    """
    if path is None or not _IN_USE.acquire(blocking=False):
        yield False
        return
    try:
        log = _opened(path)
        if log is None:
            yield False
            return
        with _in_place_of_output(log):
            _write(f"{name}: begun in process {os.getpid()} on {platform.node()}")
            yield True
    finally:
        _IN_USE.release()


@contextlib.contextmanager
def _in_place_of_output(log: int) -> Iterator[None]:
    kept = [os.dup(stream) for stream in (1, 2)]
    _flush()
    try:
        for stream in (1, 2):
            os.dup2(log, stream)
        yield
    finally:
        _flush()
        for stream, before in zip((1, 2), kept, strict=True):
            os.dup2(before, stream)
            os.close(before)
        os.close(log)


def note_progress(progress: Progress) -> None:
    """Writes a line at the end of an epoch, where `output_kept` keeps it: a log is cut, no other output may be."""
    if progress.line is not None:
        total = progress.line["train"].get("total", float("nan"))
        _write(f"epoch {progress.epoch} of {progress.epochs}: loss {total:.6g}")
        with contextlib.suppress(OSError):
            if os.fstat(1).st_size > 2 * _KEPT_BYTES:
                _cut(1)


def last_lines(path: Path | None) -> list[str]:
    """Returns the last lines of a log, shortened; none where there is no log.

    Of a fault of memory they are the first that tell of it: what it was, and where, the innermost call first.
    """
    if path is None:
        return []
    with contextlib.suppress(OSError):
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _KEPT_BYTES))
            text = file.read().decode("utf-8", errors="replace")
        lines = [
            "".join(letter if letter.isprintable() else " " for letter in line).strip() for line in text.split("\n")
        ]
        said = [line[:_LINE_LETTERS] for line in lines if line]
        fault = max((place for place, line in enumerate(said) if line.startswith(_FAULT)), default=None)
        if fault is not None and said[-1].startswith(_FAULT_ENDS):  # otherwise the process after it has written more
            threads = [place for place, line in enumerate(said) if place > fault and line.startswith(_FAULT_THREAD)]
            return [said[fault], *said[threads[0] + 1 :]][:_LINES] if threads else said[fault:][:_LINES]
        return said[-_LINES:]
    return []


def with_last_lines(message: str, path: Path | None) -> str:
    """Returns the first line of why a run failed, with the last lines of its log, in one line."""
    first = (message.splitlines() or ["no reason"])[0]
    lines = last_lines(path)
    return f"{first}; the last lines of its {LOG_FILE}: {' | '.join(lines)}" if lines else first


def _opened(path: Path) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if os.fstat(log).st_size > _KEPT_BYTES:
            _cut(log)
    return log


def _cut(log: int) -> None:
    """Leaves the end of a log."""
    end = os.pread(log, _KEPT_BYTES, max(0, os.fstat(log).st_size - _KEPT_BYTES))
    os.ftruncate(log, 0)
    os.write(log, end)


def _write(line: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the next save says so
        os.write(1, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n".encode())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
