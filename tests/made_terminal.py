"""A pseudo-terminal in the place of standard error, and what was written to it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What was written: `raw` with its codes, `text` without, `lines` as they stood one after the other."""

    raw, text, lines = "", "", ()

    def take(self, master):
        written = b""
        with contextlib.suppress(OSError):  # the other end was closed
            while read := os.read(master, 1 << 16):
                written += read
        self.raw = written.decode()
        self.text = _CODES.sub("", self.raw)
        self.lines = [line.strip() for line in re.split(r"[\r\n]+", self.text) if line.strip()]


@contextlib.contextmanager
def terminal(monkeypatch, **environment):
    """Gives a `Terminal` that standard error is connected with; read it after the block."""
    settings = {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"} | environment
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    master, slave = os.openpty()
    shown = Terminal()
    reader = threading.Thread(target=shown.take, args=(master,))
    reader.start()
    try:
        with open(slave, "w", buffering=1) as file, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", file)
            yield shown
    finally:
        reader.join(timeout=30)
        os.close(master)
