"""What a run says while another process makes it, in a file of its folder: the last words of one that is killed."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from pathlib import Path
from typing import BinaryIO

import torch

from labelembed.training.environment import peak_memory
from labelembed.training.progress import Progress

LOG_FILE = "worker.log"
_TAIL_BYTES = 32_000  # of a log so much is read
_LINES, _LINE_LETTERS = 3, 100
_BEGUN = ": begun in process "
_FAULT = "Fatal Python error: "  # so begins what `faulthandler` writes
_NO_NEWS = "(most recent call first)"  # a heading of it


def opened_log(path: Path | None) -> BinaryIO:
    """Opens the log of a run, to write at its end; what cannot be written is written nowhere.

    The run itself will say what is wrong with its folder.
    """
    if path is not None:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("ab", buffering=0)
    return Path(os.devnull).open("ab", buffering=0)


def note(log: BinaryIO, text: str) -> None:
    """Writes lines, with the time before the first."""
    with contextlib.suppress(OSError):  # a full disk: the next save says so
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())


def note_begin(log: BinaryIO, name: str) -> None:
    """Writes that an attempt at a run begins."""
    note(log, f"{name}{_BEGUN}{os.getpid()} on {platform.node()}")


def note_epoch(log: BinaryIO, progress: Progress) -> None:
    """Writes a line at the end of an epoch: the loss, and the memory that the process has needed so far."""
    if progress.line is not None:
        loss = progress.line["train"].get("total", float("nan"))
        memory = peak_memory(torch.device("cpu"))
        needed = f", {int(memory['bytes']) >> 20:,} MiB of memory" if memory else ""
        note(log, f"epoch {progress.epoch} of {progress.epochs}: loss {loss:.6g}{needed}")


def last_lines(path: Path | None) -> list[str]:
    """Returns the last lines of the last attempt in a log, shortened; none where there is no log.

    Of a fault of memory they are the first that tell of it: what it was, and where, the innermost call first.
    """
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    lines = ["".join(letter if letter.isprintable() else " " for letter in line).strip() for line in text.split("\n")]
    said = [line[:_LINE_LETTERS] for line in lines if line and not line.endswith(f"{_NO_NEWS}:")]
    begun = max((place for place, line in enumerate(said) if _BEGUN in line), default=0)
    for place, line in enumerate(said):
        if place > begun and line.startswith(_FAULT):
            return said[place:][:_LINES]
    return said[begun:][-_LINES:]


def with_last_lines(message: str, path: Path | None) -> str:
    """Returns the first line of why a run failed, with the last lines of its log, in one line."""
    first = (message.splitlines() or ["no reason"])[0]
    lines = last_lines(path)
    return f"{first}; the last lines of its {LOG_FILE}: {' | '.join(lines)}" if lines else first
