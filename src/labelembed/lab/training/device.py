"""Where a run computes: device, precision, and the processes that share its steps."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState

from labelembed.distributed import process_count
from labelembed.lab.errors import LostProcess, RecipeError
from labelembed.lab.training.settings import Precision
from labelembed.lab.training.signals import handled_by

TIMEOUT_VARIABLE = "LABELEMBED_PROCESS_TIMEOUT"
# How long one process waits for another, in seconds. A process that dies is noticed at once; one that hangs cannot be
# told from one that writes a large checkpoint, or asks a teacher about every training example, but by its time.
_TIMEOUT_SECONDS = 1800.0


def make_accelerator(precision: Precision, *, device: str | None = None) -> Accelerator:
    """Returns an Accelerator for one run.

    Args:
        precision: What the run computes in.
        device: `cpu` keeps off any accelerator there is; None: what Accelerate finds.

    Raises:
        RecipeError: For fp16 without a device that has it.
        LostProcess: Of several processes some do not come.
    """
    if precision == "fp16" and _on_cpu(device):
        raise RecipeError(["precision: 'fp16' needs a GPU; here 'bf16' or 'float32' work"])
    # Accelerate keeps its settings for the life of the process, but one process makes many runs.
    AcceleratorState._reset_state()
    meet(device=device)
    return Accelerator(cpu=_on_cpu(device), mixed_precision="no" if precision == "float32" else precision)


def meet(*, device: str | None = None) -> PartialState:
    """Waits for the other processes that torchrun or `accelerate launch` has started; alone it does nothing.

    Args:
        device: `cpu`, or None for what there is.

    Raises:
        LostProcess: They do not come.
    """
    together = os.environ.get("WORLD_SIZE", "1") != "1"
    # The other processes may have been signalled and gone before this one has met them: a signal ends the wait.
    waiting = handled_by(signal.SIG_DFL) if together else nullcontext()
    with lost_processes_named("give the command again"), waiting:
        return PartialState(cpu=_on_cpu(device), timeout=_timeout())


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
    with lost_processes_named("give the command again"):
        state.wait_for_everyone()


@contextmanager
def lost_processes_named(way_on: str | Path) -> Iterator[None]:
    """Raises LostProcess where torch says that another process was killed, ran out of memory, or hangs.

    Args:
        way_on: The run folder, or what else to do about it.

    Raises:
        LostProcess: In the place of torch's own error.
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


def _on_cpu(device: str | None) -> bool:
    return device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())


def _timeout() -> datetime.timedelta:
    given = os.environ.get(TIMEOUT_VARIABLE, _TIMEOUT_SECONDS)
    try:
        return datetime.timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        error = f"{TIMEOUT_VARIABLE}: must be a number of seconds, got {given!r}"
        raise RecipeError([error], source="environment") from None


def _is_of_a_collective(error: RuntimeError) -> bool:
    """Tells whether an error is of processes talking to each other; gloo's are RuntimeErrors like any other."""
    if isinstance(error, dist.DistError):
        return True
    text = str(error)
    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Watchdog caught collective")
    return os.environ.get("WORLD_SIZE", "1") != "1" and any(word in text for word in words)
