"""Ctrl-C, SIGTERM and SIGHUP: training ends after the step in progress, everything else ends at once.

Only the first signal is answered. It puts the handlers back that stood before, so that a second one does what it does
without us: it ends the program where it stands. That loses time and no data, for every file of a run folder is whole at
any moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from labelembed.errors import InterruptedTraining

# SIGHUP comes when the terminal is closed or the connection lost. Windows does not know it.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(SystemExit):
    """Ends the work at once; where nobody catches it the process exits with 128 and the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number


@dataclass
class Received:
    """The signal that a step of training should be the last for; None: there was none."""

    number: int | None = None


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Raises `Stopped` at the first signal of the block, wherever the program then is."""
    received = Received()

    def end(number: int) -> None:
        received.number = number
        raise Stopped(number)

    with _first_signal(end):
        try:
            yield
        except InterruptedTraining:  # made of it where there is more to say
            raise
        except Exception as error:
            if received.number is None:
                raise
            raise Stopped(received.number) from error  # of which a library has made its own error, as pydantic does


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
def end_by_system() -> Iterator[None]:
    """Leaves the signals of the block to the system, which ends the process at once and without a word.

    For a wait within a library, where Python would not hear them and nothing is being written.
    """
    before = _handlers()
    _set(dict.fromkeys(before, signal.SIG_DFL))
    try:
        yield
    finally:
        _set(before)


@contextmanager
def _first_signal(answer: Callable[[int], None]) -> Iterator[None]:
    """Calls `answer` with the number of the block's first signal, once the handlers of before are back."""
    before = _handlers()

    def first(number: int, _: object) -> None:
        _set(before)
        # A closed terminal sends SIGHUP twice, by its shell and by itself, and the end of a session sends it after
        # SIGTERM: nobody who does so wants the step in progress to be lost.
        _set(dict.fromkeys(before.keys() - {signal.SIGINT, signal.SIGTERM}, signal.SIG_IGN))
        answer(number)

    _set(dict.fromkeys(before, first))
    try:
        yield
    finally:
        _set(before)


def _handlers() -> dict[int, Any]:
    """Returns the handlers of the signals, but of those that are ignored, as SIGHUP is under `nohup`: they stay so.

    Only the main thread may set handlers; in another one there is none to be set.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: handler for number, handler in found.items() if handler not in (signal.SIG_IGN, None)}


def _set(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets signals wait for the time of the block; a process started in it lets them wait until it calls `let_come`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_come() -> None:
    """Lets signals come that were held back when this process was started."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
