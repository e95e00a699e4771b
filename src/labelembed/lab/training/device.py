"""Where a run computes: device, precision, the processes that share its steps; and the signals that stop it.

Torch is imported where it is needed: the command line answers signals, and `--help`, before that.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labelembed.lab.errors import InterruptedTraining

if TYPE_CHECKING:
    from accelerate import Accelerator

# SIGHUP comes when the terminal is closed or the connection lost. Windows does not know it.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def process_index() -> int:
    """Returns which of the processes of a launcher (torchrun, `accelerate launch`) this is, from 0."""
    rank = os.environ.get("RANK", "")
    return int(rank) if process_count() > 1 and rank.isdecimal() else 0


def process_count() -> int:
    """Returns how many processes a launcher has started together."""
    size = os.environ.get("WORLD_SIZE", "")
    return int(size) if size.isdecimal() else 1


def make_accelerator(precision: str, *, device: str | None = None) -> Accelerator:
    """Returns an Accelerator for one run; `cpu` keeps off any device there is."""
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    # Accelerate keeps its settings for the life of the process, but one process makes many runs.
    AcceleratorState._reset_state()
    return Accelerator(cpu=on_cpu, mixed_precision="no" if precision == "float32" else precision)


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
def stop_at_once() -> Iterator[None]:
    """Raises `Stopped` at the first signal of the block, wherever the program then is.

    A library that the signal comes into may report it as an error of its own: that is `Stopped` all the same.
    """
    with stop_after_step(at_once=True) as received:
        try:
            yield
        except InterruptedTraining:  # it says more
            raise
        except Exception:
            if received.number is None:
                raise
            raise Stopped(received.number) from None


@contextmanager
def stop_after_step(*, at_once: bool = False) -> Iterator[Received]:
    """Notes the first signal of the block; the block checks it after every step, saves, and raises an exception.

    A second signal has its usual effect: that loses time and no data, because every file of a run folder is always
    complete. A signal that is ignored, as SIGHUP is under `nohup`, stays so, and one that came after the
    last step is sent once more when the block has ended. Only the main thread may set handlers.
    """
    received, before = Received(), {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}

    def first(number: int, _: object) -> None:
        received.number = number
        for other, handler in before.items():
            # A closed terminal sends SIGHUP twice, once from its shell: the second one must not cost the step.
            signal.signal(other, handler if other in (signal.SIGINT, signal.SIGTERM) else signal.SIG_IGN)
        if at_once:
            raise Stopped(number)

    for number in before:
        signal.signal(number, first)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received.number is not None and not at_once:
        signal.raise_signal(received.number)


@contextmanager
def block_signals() -> Iterator[None]:
    """Lets signals wait for the time of the block; a process started in it lets them wait until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
