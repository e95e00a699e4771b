"""Ctrl-C, SIGTERM and SIGHUP: training ends after the step in progress, everything else ends at once.

Only the first signal is answered. It puts the handlers back that stood before, so that a second one does what it does
without us: it ends the program where it stands. That loses time and no data, for every file of a run folder is whole at
any moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from labelembed.lab.errors import InterruptedTraining

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
def _first_signal(answer: Callable[[int], None]) -> Iterator[None]:
    """Calls `answer` with the number of the block's first signal, once the handlers of before are back."""
    before: dict[int, Any] = {}

    def first(number: int, _: object) -> None:
        for other, handler in before.items():
            # A closed terminal sends SIGHUP twice, by its shell and by itself, and the end of a session sends it after
            # SIGTERM: nobody who does so wants the step in progress to be lost.
            signal.signal(other, handler if other in (signal.SIGINT, signal.SIGTERM) else signal.SIG_IGN)
        answer(number)

    with handled_by(first) as handlers:
        before.update(handlers)
        yield


@contextmanager
def handled_by(handler: Any) -> Iterator[dict[int, Any]]:
    """Gives the signals of the block a handler; gives the handlers of before, which come back with its end.

    With `signal.SIG_DFL` the system ends the process at once and without a word: for a wait within a library, where
    Python would not hear them and nothing is being written. A signal that is ignored, as SIGHUP is under `nohup`,
    stays so. Only the main thread may set handlers; in another one all stay as they are.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in SIGNALS if in_main}
    before = {number: kept for number, kept in before.items() if kept not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield before
    finally:
        for number, kept in before.items():
            signal.signal(number, kept)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets signals wait for the time of the block; a process started in it lets them wait until it unblocks them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
