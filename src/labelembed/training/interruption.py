"""Ctrl-C and SIGTERM: the step in progress ends, its state is saved, then the run stops."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Says whether the run should stop, and by which signal; asked after every step.

    Args:
        also: A further question, for instance whether the parent process has asked its workers to stop.
    """

    def __init__(self, *, also: Callable[[], bool] = lambda: False) -> None:
        self.signal_number: int | None = None
        self._also = also

    def requested(self) -> bool:
        """Tells whether to stop after this step."""
        if self.signal_number is None and self._also():
            self.signal_number = signal.SIGINT
        return self.signal_number is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Catches the first SIGINT or SIGTERM as a request; a second one leaves at once."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers; there the caller is in charge
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if request.signal_number is not None:
            os._exit(128 + number)
        request.signal_number = number

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
