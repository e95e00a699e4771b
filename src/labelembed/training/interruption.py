"""Ctrl-C, SIGTERM and SIGHUP: the step in progress ends, its state is saved, then the run stops."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from labelembed.training.leaving import HANGUP, SIGNALS, answered_signals, leave_now

STOPPED = "stopped; to go on, give the same command again"
# For so long a signal may stay unheard where it should end the work at once: Python hears none while it waits for C.
_UNHEARD_SECONDS = 2.0
# After so long a signal is sent again whose exception was swallowed; what swallowed it is over by then.
_AGAIN_SECONDS = 0.05


class Stopped(KeyboardInterrupt):
    """A signal that ends the work at once, where there is no step whose end it would wait for."""

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def signal_of(stopped: KeyboardInterrupt) -> int:
    """Returns the signal that a KeyboardInterrupt comes of."""
    return stopped.signal_number if isinstance(stopped, Stopped) else signal.SIGINT


def interruption_behind(error: BaseException | None) -> KeyboardInterrupt | None:
    """Returns the KeyboardInterrupt that another error was made of, if it was."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


class StopRequest:
    """Says whether the run should stop, and by which signal; asked after every step.

    Args:
        also: A further question, for instance whether the parent process has asked its workers to stop.

    Attributes:
        at_once: Whether a signal should end the work now, for no step is in progress: data are read, or what is left
            is measured. What is on the disk is then what the same command goes on with.
        by_signal: Whether this process has had the signal itself.
        raised: Whether that was answered by an exception, `Stopped`, wherever the process then was.
    """

    def __init__(self, *, also: Callable[[], bool] = lambda: False) -> None:
        self.signal_number: int | None = None
        self.at_once = False
        self.by_signal = False
        self.raised = False
        self._also = also

    def requested(self) -> bool:
        """Tells whether to stop after this step."""
        if self.signal_number is None and self._also():
            self.signal_number = signal.SIGINT
        return self.signal_number is not None

    @contextmanager
    def now_at_once(self, at_once: bool) -> Iterator[None]:
        """For the time of the block signals end the work at once, or wait to be asked about.

        An error that leaves the block goes before a signal that comes while it is told.
        """
        before, self.at_once = self.at_once, at_once
        try:
            with self.as_itself():
                yield
        except Exception:
            self.at_once = False
            raise
        self.at_once = before
        if before and self.by_signal:  # it came after the last question
            raise Stopped(self.signal_number or signal.SIGINT)

    @contextmanager
    def as_itself(self) -> Iterator[None]:
        """Has `Stopped` leave the block as that, also where a library has made another error of it.

        It is raised within whatever calls back into Python, and to that it is a callback that has failed.
        """
        try:
            yield
        except Exception as error:
            if self.raised:
                raise Stopped(self.signal_number or signal.SIGINT) from error
            raise


@contextmanager
def stop_on_signals(*, at_once: bool = False) -> Iterator[StopRequest]:
    """Catches the first SIGINT, SIGTERM or SIGHUP as a request; a second one leaves at once.

    Args:
        at_once: Whether to begin with the first one ends the work by raising `Stopped`; see `StopRequest`.
    """
    request = StopRequest()
    request.at_once = at_once

    def handle(number: int) -> None:
        request.signal_number, request.by_signal = number, True
        if request.at_once:
            request.raised = True
            raise Stopped(number)

    with signals_to(handle, at_once=lambda: request.at_once), request.as_itself():
        yield request


@contextmanager
def signals_to(handle: Callable[[int], None], *, at_once: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Has the first SIGINT, SIGTERM or SIGHUP of the block handled, and a second one leave at once.

    Only the main thread may set handlers; in another one the caller is in charge and nothing is done.

    Args:
        handle: Called with the number.
        at_once: Whether one that is not heard for seconds, for a library does not return, should end the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    again: list[threading.Timer] = []

    def first_or_second(number: int, frame: FrameType | None) -> None:
        _WATCH.heard()
        if sys.platform != "win32" and number in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            # Held back here, see `held_back`, but another thread took it: let it wait for this one.
            signal.raise_signal(number)
            return
        if heard and number == HANGUP:
            return
        if heard:
            leave_now(128 + number)
        heard.append(number)
        handle(number)

    def swallowed(what: sys.UnraisableHookArgs) -> None:
        if not isinstance(what.exc_value, KeyboardInterrupt):
            unraisable(what)
            return
        # It was raised where nothing can be, within a finaliser say: the signal comes once more, as the first one.
        number = heard[-1] if heard else signal_of(what.exc_value)
        heard.clear()
        again.append(threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number)))
        again[-1].daemon = True
        again[-1].start()

    before = {number: signal.signal(number, first_or_second) for number in answered_signals()}
    unraisable, sys.unraisablehook = sys.unraisablehook, swallowed
    try:
        with _WATCH.watching(at_once):
            yield
    finally:
        sys.unraisablehook = unraisable
        for timer in again:
            timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def signal_has_come() -> bool:
    """Tells whether one of the signals has come to this process yet, within a block of `signals_to`."""
    return _WATCH.has_come


class _Watch:
    """Hears signals while the main thread waits for a library, where Python's own handlers do not run.

    The interpreter writes every signal's number into a pipe, at which a thread listens: a second signal leaves
    whatever the main thread does, and so does a first one that should end the work at once.
    """

    def __init__(self) -> None:
        self.has_come = False
        self._asked: list[Callable[[], bool]] = []
        self._heard_at = 0.0
        self._unheard = 0
        self._writes = -1

    @contextmanager
    def watching(self, at_once: Callable[[], bool]) -> Iterator[None]:
        if sys.platform == "win32":  # its pipes cannot be told of signals
            yield
            return
        if self._writes < 0:
            reads, self._writes = os.pipe()
            os.set_blocking(self._writes, False)
            threading.Thread(target=self._listen, args=(reads,), daemon=True).start()
        self._asked.append(at_once)
        before = signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            self._asked.pop()

    def heard(self) -> None:
        """Says that the main thread has had a signal."""
        self._heard_at, self._unheard = time.monotonic(), 0

    def _listen(self, reads: int) -> None:
        while True:
            for number in os.read(reads, 1):
                if number in SIGNALS:
                    self.has_come = True
                    threading.Thread(target=self._judge, args=(number, time.monotonic()), daemon=True).start()

    def _judge(self, number: int, came_at: float) -> None:
        time.sleep(_UNHEARD_SECONDS)
        # This thread may have come to its turn later than the handler.
        if not self._asked or self._heard_at > came_at - 1.0:
            return
        self._unheard += number != HANGUP or not self._unheard
        if self._unheard > 1 or self._asked[-1]():
            with contextlib.suppress(OSError):  # where standard error is closed
                os.write(2, f"{STOPPED}\n".encode())
            leave_now(128 + number)


_WATCH = _Watch()
