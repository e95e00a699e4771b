"""What a run and a comparison show while they go on: on a terminal, into a pipe, with --quiet, without colours."""

from __future__ import annotations

import io
import re
import sys
from contextlib import contextmanager, redirect_stderr
from types import SimpleNamespace

import pytest

pytest.importorskip("pty", reason="no pseudo-terminals here")

from labelembed.lab.runs import display
from labelembed.lab.runs.display import RunDisplay, duration
from labelembed.lab.training.reporter import Progress

TERMS = {"total": 0.61, "output": 0.41, "target": 0.2, "hinge": 0.0}
LINE = {"epoch": 1, "train": TERMS, "validation": {"error": 0.125}, "test": {"error": 0.25}}
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SHOWN = "validation error 12.50%, test error 25.00%; total 0.61, output 0.41, target 0.2"


class Terminal(io.StringIO):
    """What was written: `raw` with its codes, `text` without, `lines` as they stood one after the other."""

    raw = property(io.StringIO.getvalue)
    text = property(lambda self: CODES.sub("", self.raw))
    lines = property(lambda self: [line.strip() for line in re.split(r"[\r\n]+", self.text) if line.strip()])

    def isatty(self):
        return True


@contextmanager
def terminal(monkeypatch, **environment):
    """Gives a `Terminal` that stands for standard error within the block."""
    settings = {"TERM": "xterm-256color", "COLUMNS": "200", "LINES": "50"} | environment
    with monkeypatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stderr", Terminal())
        yield sys.stderr


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when it is said."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def at(epoch, *, batch=0, line=None, epochs=4):
    return Progress(epoch, epochs, batch, 10, line)


def run_shown(clock, shown):
    """Lets the first one and a half of four epochs of a run pass, an epoch in ten seconds."""
    with shown.watching():
        for batch in range(1, 10):
            clock.now += 1
            shown.progress(at(0, batch=batch))
        clock.now += 1
        shown.progress(at(1, line=LINE))
        clock.now += 5
        shown.progress(at(1, batch=5))
        shown._progress.refresh()  # by itself it is drawn ten times a second


def test_run_on_a_terminal_shows_epoch_terms_errors_and_time_left(clock, monkeypatch):
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay())
    assert shown.lines[-1].startswith("epoch 2/4 ")
    assert "0:00:25" in shown.lines[-1]  # an epoch and a half took 15 seconds, two and a half are left
    assert shown.lines[-1].endswith(SHOWN)
    assert shown.raw.index("\x1b[?25h") > shown.raw.index("\x1b[?25l")  # the hidden cursor comes back


def test_terminal_that_only_prints_and_a_pipe_get_plain_lines(clock, monkeypatch):
    plain = [f"epoch 1/4: {SHOWN}; about 30 s left"]
    with redirect_stderr(io.StringIO()) as pipe:
        run_shown(clock, RunDisplay())
    assert pipe.getvalue().splitlines() == plain
    with terminal(monkeypatch, TERM="dumb") as shown:
        run_shown(clock, RunDisplay())
    assert shown.lines == plain
    assert "\x1b" not in shown.raw


def test_quiet_says_nothing_but_warnings(clock, monkeypatch):
    with terminal(monkeypatch) as shown:
        run_shown(clock, quiet := RunDisplay(quiet=True))
        quiet.warn("the data are few")
    assert shown.lines == ["the data are few"]


def test_a_long_epoch_into_a_pipe_has_a_line_every_ten_seconds_with_the_time_left_of_what_goes_on_now(clock):
    with redirect_stderr(io.StringIO()) as pipe, RunDisplay().watching() as run:
        for done in (1, 500, 1000):  # quick
            run.reading(done, 1000)
        for second in range(35):
            run.progress(at(0, batch=second, epochs=30))
            clock.now += 1
    lines = pipe.getvalue().splitlines()
    assert [line.partition(";")[0] for line in lines] == [f"epoch 1/30: step {step} of 10" for step in (10, 20, 30)]
    assert lines[0].endswith("; about 4 min 50 s left")


def test_durations_are_said_as_people_do():
    assert [duration(seconds) for seconds in (3.21, 59, 250, 7500)] == ["3.2 s", "59 s", "4 min 10 s", "2 h 5 min"]
