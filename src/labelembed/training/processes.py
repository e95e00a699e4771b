"""Several processes of one run: how they meet, and what is said when one of them is lost."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import PartialState

from labelembed.distributed import process_count
from labelembed.errors import LostProcess, RecipeError

TIMEOUT_VARIABLE = "LABELEMBED_PROCESS_TIMEOUT"
# How long one process waits for another, in seconds. One that dies is noticed at once; one that hangs is told from one
# that writes a large checkpoint, or asks a teacher about every training row, by its time alone.
_TIMEOUT_SECONDS = 1800.0


def on_cpu(device: str | None) -> bool:
    """Tells whether a run asked to be on a device is on the processor."""
    return device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())


def timeout() -> datetime.timedelta:
    """Returns how long one process waits for another.

    Raises:
        RecipeError: The environment says something that is no number of seconds.
    """
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given or _TIMEOUT_SECONDS)
        if not 0 < seconds < 1e9:
            raise ValueError
    except ValueError:
        fault = f"{TIMEOUT_VARIABLE}: must be a number of seconds > 0, got {given!r}"
        raise RecipeError([fault], source="environment") from None
    return datetime.timedelta(seconds=seconds)


def meet(*, device: str | None = None) -> PartialState:
    """Waits for the other processes that torchrun or `accelerate launch` has started; alone it does nothing.

    Args:
        device: `cpu`, or None for what there is.

    Raises:
        LostProcess: They do not come.
    """
    with lost_processes_told("give the command again"):
        return PartialState(cpu=on_cpu(device), timeout=timeout())


@contextmanager
def lost_processes_told(way_on: str | Path) -> Iterator[None]:
    """Says so where this process waited in vain for another one, which was killed, ran out of memory, or hangs.

    Args:
        way_on: The run folder, or what else to do about it.

    Raises:
        LostProcess: In the place of what torch says.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_a_collective(error):
            raise
        alone = not dist.is_initialized()
        number = os.environ.get("RANK", "?") if alone else dist.get_rank()
        count = os.environ.get("WORLD_SIZE", "?") if alone else process_count()
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        how = f"labelembed resume {way_on}" if isinstance(way_on, Path) else way_on
        raise LostProcess(
            f"process {number} of {count}: another process has died or hangs, and cannot be waited for any longer\n"
            f"({reason[:200]})\n"
            f"What is saved is kept. To go on, in one process or several: {how}"
        ) from error


@contextmanager
def one_for_all(*, device: str | None = None) -> Iterator[bool]:
    """Gives the first process True and the others, which wait for the end of its block, False.

    Args:
        device: `cpu`, or None for what there is.

    Raises:
        LostProcess: One of them does not come.
    """
    state = meet(device=device)
    yield bool(state.is_main_process)
    with lost_processes_told("give the command again"):
        state.wait_for_everyone()


def _is_of_a_collective(error: RuntimeError) -> bool:
    """Tells whether an error is of processes talking to each other; gloo's are RuntimeErrors like any other."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Watchdog caught collective")
    return os.environ.get("WORLD_SIZE", "1") != "1" and any(word in text for word in words)
