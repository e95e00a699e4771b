"""Standard error that ends no work when nobody reads it any more: its terminal was closed, or its pipe's reader left.

Otherwise a progress line would end a run of hours as soon as a connection is lost, or `tee` is killed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Any, TextIO, cast


def steady(stream: TextIO) -> TextIO:
    """Returns a stream that writes to another one as long as it can, and drops what it cannot."""
    return cast(TextIO, stream if isinstance(stream, _SteadyStream) else _SteadyStream(stream))


class _SteadyStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _fall_silent(self) -> None:
        """Leads what is still to come, and what is kept for writing, to where it cannot fail."""
        with contextlib.suppress(OSError, ValueError):  # no file, as where a test takes what is written
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
