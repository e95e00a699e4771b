"""What a run and a comparison show while they go on: on a terminal, into a pipe, with --quiet, without colours."""

from __future__ import annotations

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("pty", reason="no pseudo-terminals here")

from labelembed.lab.runs.jobs import Event, Job
from labelembed.lab.runs.progress_text import duration

from labelembed.lab.runs import display, progress_text
from labelembed.lab.runs.display import ComparisonDisplay, RunDisplay
from labelembed.lab.training.reporter import Progress
from tests.made_terminal import terminal

LINE = {
    "train": {"total": 0.61, "output": 0.41, "target": 0.2, "hinge": 0.0},
    "validation": {"error": 0.125},
    "test": {"error": 0.25},
}


class Clock:
    """Seconds that pass when it is said."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        for module in (display, progress_text):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Clock(monkeypatch)


def at(epoch, *, batch=0, line=None, epochs=4):
    return Progress(epoch, epochs, batch, 10, 1.0, line)


def draw(shown):
    """Draws what stands now; by itself a display is drawn ten times a second."""
    if shown.shown._bars is not None:
        shown.shown._bars.refresh()


def run_shown(clock, shown):
    """Lets a run of four epochs pass: from its start, then an epoch in ten seconds."""
    with shown.watching():
        shown.progress(at(0))
        clock.now += 10
        shown.progress(at(1, line=LINE))
        clock.now += 5
        shown.progress(at(1, batch=5))
        draw(shown)


def comparison_shown(clock, shown):
    """Lets two of three runs pass, of which one was made before and one ends after 40 seconds."""
    first, second = Job("one_hot seed 1", None), Job("label_embedding seed 0", None)
    with shown.watching():
        shown(Event(first, "progress", at(0)))
        clock.now += 20
        shown(Event(first, "progress", at(2, line=LINE)))
        draw(shown)
        clock.now += 20
        shown(Event(first, "done", result={"validation": {"error": 0.1}, "seconds": 40.0}))
        shown(Event(second, "progress", at(0)))
        clock.now += 10
        shown(Event(second, "progress", at(1, line=LINE)))
        draw(shown)
        shown(Event(second, "failed", message="the loss is nan [at] step 3\nmore"))


def test_run_on_a_terminal_shows_epoch_terms_validation_measure_and_time_left(clock, monkeypatch):
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay())
    last = shown.lines[-1]
    assert last.startswith("epoch 2/4 ")
    assert "about 25 s left" in last  # an epoch and a half took 15 seconds, two and a half are left
    assert last.endswith("validation error 12.50%, test error 25.00%; total 0.61, output 0.41, target 0.2")
    assert "\x1b[?25l" in shown.raw  # the cursor is hidden, and comes back
    assert shown.raw.index("\x1b[?25h") > shown.raw.index("\x1b[?25l")


def test_comparison_on_a_terminal_shows_its_runs_and_the_time_left_for_all(clock, monkeypatch):
    with terminal(monkeypatch) as shown:
        comparison_shown(clock, ComparisonDisplay(total=3, reused=1, epochs=4))
    text = shown.text
    # Two epochs in 20 seconds; two of this run and four of the other are left.
    assert re.search(r"1 of 3 runs [━ ╸╺]+[0-9:]+ +about 1 min 0 s left", text)
    assert re.search(
        r"  one_hot seed 1 +[━╸╺]+ +[0-9:-]+ +epoch 3/4 validation error 12.50%, test error 25.00%; total 0.61, "
        "output 0.41, target 0.2",
        text,
    )
    # Five epochs in 50 seconds, three are left.
    assert re.search(r"2 of 3 runs [━ ╸╺]+[0-9:]+ +about 30 s left", text)
    assert "[3/3] label_embedding seed 0: FAILED: the loss is nan [at] step 3" in shown.lines
    assert re.search(r"3 of 3 runs [━ ╸╺]+[0-9:]+ +done", text)


def test_narrow_terminal_cuts_a_line_and_never_wraps_it(clock, monkeypatch):
    with terminal(monkeypatch, columns=60) as shown:
        comparison_shown(clock, ComparisonDisplay(total=3, reused=1, epochs=4))
    assert all(len(line) <= 60 for line in shown.lines if "FAILED" not in line)
    assert any("…" in line for line in shown.lines)


def test_no_color_is_heard(clock, monkeypatch):
    coloured = r"\x1b\[[0-9;]*3[0-9][0-9;]*m"
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay())
    assert re.search(coloured, shown.raw)
    with terminal(monkeypatch, NO_COLOR="1") as shown:
        run_shown(clock, RunDisplay())
    assert not re.search(coloured, shown.raw)
    assert "epoch 2/4" in shown.text


def test_terminal_that_only_prints_and_a_pipe_get_plain_lines(clock, monkeypatch):
    plain = [
        "epoch 1/4: validation error 12.50%, test error 25.00%; total 0.61, output 0.41, target 0.2; about 30 s left",
    ]
    with terminal(monkeypatch, TERM="dumb") as shown:
        run_shown(clock, RunDisplay())
    assert shown.lines == plain
    assert "\x1b" not in shown.raw
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_shown(clock, RunDisplay())
    assert sys.stderr.getvalue().splitlines() == plain
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    comparison_shown(clock, ComparisonDisplay(total=3, reused=1, epochs=4))
    assert sys.stderr.getvalue().splitlines() == [
        "[1/3] one_hot seed 1: epoch 3/4; about 1 min 0 s left",
        "[2/3] one_hot seed 1: validation error 10.00% (40 s); about 40 s left",
        "[2/3] label_embedding seed 0: epoch 2/4; about 30 s left",
        "[3/3] label_embedding seed 0: FAILED: the loss is nan [at] step 3",
    ]


@pytest.mark.parametrize("live", [True, False])
def test_quiet_says_nothing(clock, monkeypatch, live):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    if live:
        with terminal(monkeypatch) as shown:
            run_shown(clock, RunDisplay(quiet=True))
            comparison_shown(clock, ComparisonDisplay(total=3, reused=1, epochs=4, quiet=True))
        assert shown.raw == ""
    else:
        run_shown(clock, RunDisplay(quiet=True))
        comparison_shown(clock, ComparisonDisplay(total=3, reused=1, epochs=4, quiet=True))
        assert sys.stderr.getvalue() == ""


def test_loss_of_one_term_is_told_once(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = RunDisplay()
    with shown.watching():
        shown.progress(at(0))
        clock.now += 10
        shown.progress(at(1, line={"train": {"total": 0.5, "output": 0.5}, "validation": {"bleu": 0.25, "error": 0.5}}))
    assert sys.stderr.getvalue() == (
        "epoch 1/4: validation BLEU 25.00 (token error 50.00%); total 0.5; about 30 s left\n"
    )


def test_a_long_epoch_into_a_pipe_has_a_line_every_ten_seconds_with_the_time_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run = RunDisplay()
    with run.watching():
        for second in range(25):
            run.progress(at(0, batch=second, epochs=30))
            clock.now += 1
    lines = sys.stderr.getvalue().splitlines()
    assert lines[0] == "epoch 1/30, step 1 of 10; about 4 min 59 s left"  # the first says how long it takes
    assert [line.partition(";")[0] for line in lines] == [f"epoch 1/30, step {step} of 10" for step in (1, 11, 21)]
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    compared, job = ComparisonDisplay(total=2, reused=0, epochs=4), Job("one_hot seed 0", None)
    with compared.watching():
        for second in range(25):
            compared(Event(job, "progress", Progress(0, 4, second, 100, 1.0, None)))
            clock.now += 1
    assert sys.stderr.getvalue().splitlines()[0] == "[0/2] one_hot seed 0: epoch 1/4; about 13 min 19 s left"
    assert len(sys.stderr.getvalue().splitlines()) == 3


def test_a_line_is_repeated_while_nothing_is_reported(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(display, "_SOON_SECONDS", 0.02)
    shown = RunDisplay()
    with shown.watching():
        clock.now += 10.5  # data are read
        time.sleep(0.2)
        shown.progress(at(0))
        clock.now += 5
        shown.progress(at(1, line=LINE, epochs=1))  # the end: its test sentences are translated yet
        for _ in range(3):
            clock.now += 10.5
            time.sleep(0.2)
    lines = sys.stderr.getvalue().splitlines()
    assert lines[0] == "starting"
    assert lines[1].startswith("epoch 1/1: ")
    assert lines[2:] == ["measuring with the weights of the selected epoch"] * 3


def test_the_time_left_after_a_resume_counts_what_was_done_and_not_the_start(clock, monkeypatch):
    """Two runs are finished, two were stopped after 90 of 100 epochs, and one has not begun."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    half_done = {"one_hot seed 2": 90.0, "one_hot seed 3": 90.0}
    shown = ComparisonDisplay(total=5, reused=2, epochs=100, half_done=half_done)
    first = Job("one_hot seed 2", None)
    with shown.watching():
        clock.now += 30  # data are read, processes start
        shown(Event(first, "progress", at(90, batch=5, epochs=100)))
        clock.now += 1
        shown(Event(first, "progress", at(91, batch=5, epochs=100)))
    # An epoch took a second; 8.5, 10 and 100 are left.
    assert sys.stderr.getvalue().splitlines()[-1].endswith("; about 1 min 58 s left")
    alone = RunDisplay()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with alone.watching():
        clock.now += 30
        alone.progress(at(90, batch=5, epochs=100))
        clock.now += 1
        alone.progress(at(91, batch=5, epochs=100))
    assert sys.stderr.getvalue() == "epoch 92/100, step 5 of 10; about 8.5 s left\n"


def test_durations_are_said_as_people_do():
    assert [duration(seconds) for seconds in (3.21, 59, 250, 7500)] == ["3.2 s", "59 s", "4 min 10 s", "2 h 5 min"]
