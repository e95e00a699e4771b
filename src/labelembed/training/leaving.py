"""The end of a process: with the exit code that was earned, and no part of a pair of steps done alone."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# A terminal or a connection was closed; Windows does not know it. It comes of the system, of the shell and after
# SIGTERM of the session, and so it is never the second signal, the one by which somebody asks to leave at once.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
SIGNALS = (signal.SIGINT, signal.SIGTERM, *(() if HANGUP is None else (HANGUP,)))


def answered_signals() -> tuple[signal.Signals, ...]:
    """Returns the signals that end this process' work: all, but SIGHUP where it was told to outlive its terminal."""
    return tuple(one for one in SIGNALS if one != HANGUP or signal.getsignal(one) is not signal.SIG_IGN)


class Ending:
    """What signals do outside `stop_on_signals`, in a process that is about to end or has hardly begun.

    Without it one that comes while the last message is written, or while the interpreter takes itself down, would
    have the process die of it, and another code would come out than the one that was earned.
    """

    def __init__(self) -> None:
        self._code: int | None = None
        self._heard = False

    def take_signals(self) -> None:
        """Takes the signals for the rest of the process; within it other handlers may stand for a time.

        Only the main thread may set handlers; in another one the caller is in charge and nothing is done.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in answered_signals():
            signal.signal(number, self._hear)
        # Registered first it is called last, and what follows it takes the handlers of Python away.
        atexit.register(_ignore_signals)

    def exit(self, code: int) -> NoReturn:
        """Ends the process with this code, from now on at once where a signal comes."""
        self._code = code
        sys.exit(code)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._code is not None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, RuntimeError):  # closed, or interrupted in its writing
                    stream.flush()
            leave_now(self._code)
        if self._heard and number != HANGUP:
            leave_now(128 + number)
        self._heard = True


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def held_back() -> Iterator[None]:
    """Lets signals wait for the time of the block, also in a process started in it.

    For steps of which none should be done without the other; nothing in it may take long.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_now(code: int) -> NoReturn:
    """Ends the process at once; its locks end with it."""
    os._exit(code)
