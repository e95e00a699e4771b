"""A terminal in the place of standard error, and what was written to it."""

from __future__ import annotations

import contextlib
import io
import re
import sys

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """What was written: `raw` with its codes, `text` without, `lines` as they stood one after the other."""

    raw = property(io.StringIO.getvalue)
    text = property(lambda self: _CODES.sub("", self.raw))
    lines = property(lambda self: [line.strip() for line in re.split(r"[\r\n]+", self.text) if line.strip()])

    def isatty(self):
        return True


@contextlib.contextmanager
def terminal(monkeypatch, **environment):
    """Gives a `Terminal` that stands for standard error within the block."""
    settings = {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"} | environment
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stderr", Terminal())
        yield sys.stderr
