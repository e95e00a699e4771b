"""Where a run computes: device, precision, the processes that share its steps; and the signals that stop it.

Torch is imported where it is needed: the command line answers signals, and `--help`, before that.
"""

from __future__ import annotations

import datetime
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from labelembed.lab.errors import InterruptedTraining, LostProcess, RecipeError

if TYPE_CHECKING:
    from accelerate import Accelerator

TIMEOUT_VARIABLE = "LABELEMBED_PROCESS_TIMEOUT"
# How long one process waits for another, in seconds. A process that dies is noticed at once; one that hangs cannot be
# told from one that writes a large checkpoint, or asks a teacher about every training example, but by its time.
_TIMEOUT_SECONDS = 1800.0


def process_index() -> int:
    """Returns which of the processes of a launcher (torchrun, `accelerate launch`) this is, from 0."""
    rank = os.environ.get("RANK", "")
    return int(rank) if process_count() > 1 and rank.isdecimal() else 0


def process_count() -> int:
    """Returns how many processes a launcher has started together."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() else 1


def make_accelerator(precision: str, *, device: str | None = None) -> Accelerator:
    """Returns an Accelerator for one run, once all its processes have met.

    Args:
        precision: What the run computes in.
        device: `cpu` keeps off any accelerator there is; None: what Accelerate finds.

    Raises:
        RecipeError: For fp16 without a device that has it.
        LostProcess: Of several processes some do not come.
    """
    import torch
    from accelerate import Accelerator, PartialState
    from accelerate.state import AcceleratorState

    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if precision == "fp16" and on_cpu:
        raise RecipeError(["precision: 'fp16' needs a GPU; here 'bf16' or 'float32' work"])
    # Accelerate keeps its settings for the life of the process, but one process makes many runs.
    AcceleratorState._reset_state()
    # The other processes may have been signalled and gone before this one has met them: a signal ends the wait.
    waiting = _first_signal(None) if process_count() > 1 else nullcontext()
    with lost_processes_named("give the command again"), waiting:
        PartialState(cpu=on_cpu, timeout=_timeout())
    return Accelerator(cpu=on_cpu, mixed_precision="no" if precision == "float32" else precision)


@contextmanager
def lost_processes_named(way_on: str | Path) -> Iterator[None]:
    """Raises LostProcess where torch says that another process was killed, ran out of memory, or hangs.

    Args:
        way_on: The run folder, or what else to do about it.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_a_collective(error):
            raise
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        how = f"labelembed resume {way_on}" if isinstance(way_on, Path) else way_on
        raise LostProcess(
            f"process {process_index()} of {process_count()}: another process has died or hangs, and cannot be waited "
            f"for any longer\n({reason[:200]})\n"
            f"What is saved is kept. To go on, in one process or several: {how}"
        ) from error


def _timeout() -> datetime.timedelta:
    given = os.environ.get(TIMEOUT_VARIABLE, _TIMEOUT_SECONDS)
    try:
        return datetime.timedelta(seconds=float(given))
    except (ValueError, OverflowError):
        error = f"{TIMEOUT_VARIABLE}: must be a number of seconds, got {given!r}"
        raise RecipeError([error], source="environment") from None


def _is_of_a_collective(error: RuntimeError) -> bool:
    """Returns whether an error is of processes talking to each other; gloo's are RuntimeErrors like any other."""
    from torch.distributed import DistError

    words = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Watchdog caught collective")
    return isinstance(error, DistError) or (process_count() > 1 and any(word in str(error) for word in words))


# ---- signals
# SIGHUP comes when the terminal is closed or the connection lost. Windows does not know it.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(SystemExit):
    """Ends the work at once; where nobody catches it the process exits with 128 and the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number


@dataclass
class Received:
    """The first signal of a block; None: there was none."""

    number: int | None = None


@contextmanager
def stop_after_step() -> Iterator[Received]:
    """Notes the first signal of the block, which asks for it after every step, saves and leaves by an exception.

    One that came after the last step is sent once more when the block has ended.
    """
    received = Received()
    with _first_signal(partial(setattr, received, "number")):
        yield received
    if received.number is not None:
        signal.raise_signal(received.number)


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Raises `Stopped` at the first signal of the block, wherever the program then is."""
    received = Received()

    def end(number: int) -> None:
        received.number = number
        raise Stopped(number)

    try:
        with _first_signal(end):
            yield
    except Exception as error:
        if received.number is None or isinstance(error, InterruptedTraining):
            raise
        raise Stopped(received.number) from error  # a library made another exception of it, as pydantic does


@contextmanager
def _first_signal(answer: Callable[[int], None] | None) -> Iterator[None]:
    """Calls `answer` with the first signal of the block; a second one does what it would have done without us.

    That loses time and no data, for every file of a run folder is whole at any moment. Without an `answer` the system
    ends the process at once: for a wait within a library, where Python would not hear signals. One that is ignored, as
    SIGHUP is under `nohup`, stays so. Only the main thread may set handlers; in another one all stay as they are.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def first(number: int, _: object) -> None:
        for other, handler in before.items():
            # A closed terminal sends SIGHUP twice, by its shell and by itself, and the end of a session sends it after
            # SIGTERM: nobody who does so wants the step in progress to be lost.
            signal.signal(other, handler if other in (signal.SIGINT, signal.SIGTERM) else signal.SIG_IGN)
        if answer is not None:
            answer(number)

    for number in before:
        signal.signal(number, signal.SIG_DFL if answer is None else first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def block_signals() -> Iterator[None]:
    """Lets signals wait for the time of the block; a process started in it lets them wait until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
