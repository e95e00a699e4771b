"""What a run and a comparison show while they go on: on a terminal, into a pipe, with --quiet, without colours."""

from __future__ import annotations

import io
import re
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("pty", reason="no pseudo-terminals here")

from labelembed.lab.runs import display
from labelembed.lab.runs.display import RunDisplay, RunsDisplay, duration
from labelembed.lab.training.reporter import Progress
from labelembed.lab.training.run_folder import RunFolder
from tests.made_terminal import terminal

LINE = {
    "epoch": 1,
    "train": {"total": 0.61, "output": 0.41, "target": 0.2, "hinge": 0.0},
    "validation": {"error": 0.125},
    "test": {"error": 0.25},
}
SHOWN = "validation error 12.50%, test error 25.00%; total 0.61, output 0.41, target 0.2"


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when it is said."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


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


def runs_shown(clock, folder, **how):
    """Lets two of three runs pass, of which one was made before and one ends after 40 seconds."""
    shown = RunsDisplay(total=3, reused=1, **how)
    first, second = RunFolder(folder / "first"), RunFolder(folder / "second")
    for run in (first, second):
        run.path.mkdir(parents=True)
    with shown.shown.watching():
        shown.add("one_hot seed 1", first.path, 4)
        shown.add("label_embedding seed 0", second.path, 4)
        shown.update()
        clock.now += 20
        for epoch in (1, 2):
            first.append_history(LINE | {"epoch": epoch})
        shown.update()
        draw(shown)
        clock.now += 20
        shown.ended("one_hot seed 1", "", {"validation": {"error": 0.1}, "test": {"error": 0.2}, "seconds": 40.0})
        draw(shown)
        shown.ended("label_embedding seed 0", "the loss is nan [at] step 3\nmore", {})


def test_run_on_a_terminal_shows_epoch_terms_errors_and_time_left(clock, monkeypatch):
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay())
    last = shown.lines[-1]
    assert last.startswith("epoch 2/4 ")
    assert "about 25 s left" in last  # an epoch and a half took 15 seconds, two and a half are left
    assert last.endswith(SHOWN)
    assert shown.raw.index("\x1b[?25h") > shown.raw.index("\x1b[?25l")  # the hidden cursor comes back


def test_comparison_on_a_terminal_shows_its_runs_and_the_time_left_for_all(clock, monkeypatch, tmp_path):
    with terminal(monkeypatch) as shown:
        runs_shown(clock, tmp_path)
    # Two epochs in 20 seconds; two of this run and four of the other are left.
    assert re.search(r"1 of 3 runs [━ ╸╺]+[0-9:]+ +about 1 min 0 s left", shown.text)
    assert re.search(rf"  one_hot seed 1 +[━╸╺]+ +[0-9:-]+ +epoch 2/4 {SHOWN}", shown.text)
    assert re.search(r"2 of 3 runs [━ ╸╺]+[0-9:]+ +about 40 s left", shown.text)
    assert "[3/3] label_embedding seed 0: FAILED: the loss is nan [at] step 3" in shown.lines


def test_no_color_is_heard(clock, monkeypatch):
    coloured = r"\x1b\[[0-9;]*3[0-9][0-9;]*m"
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay())
    assert re.search(coloured, shown.raw)
    with terminal(monkeypatch, NO_COLOR="1") as shown:
        run_shown(clock, RunDisplay())
    assert not re.search(coloured, shown.raw)


def test_terminal_that_only_prints_and_a_pipe_get_plain_lines(clock, monkeypatch, tmp_path):
    plain = [f"epoch 1/4: {SHOWN}; about 30 s left"]
    with terminal(monkeypatch, TERM="dumb") as shown:
        run_shown(clock, RunDisplay())
    assert shown.lines == plain
    assert "\x1b" not in shown.raw
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_shown(clock, RunDisplay())
    assert sys.stderr.getvalue().splitlines() == plain
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    runs_shown(clock, tmp_path / "all")
    runs_shown(clock, tmp_path / "hidden", hide_test=True)
    lines = sys.stderr.getvalue().splitlines()
    assert lines[:3] == [
        "[1/3] one_hot seed 1: epoch 2/4; about 1 min 0 s left",
        "[2/3] one_hot seed 1: validation error 10.00%, test error 20.00% (40 s); about 40 s left",
        "[3/3] label_embedding seed 0: FAILED: the loss is nan [at] step 3",
    ]
    assert not any("test" in line for line in lines[3:])  # of the trials of a tuning


def test_quiet_says_nothing(clock, monkeypatch, tmp_path):
    with terminal(monkeypatch) as shown:
        run_shown(clock, RunDisplay(quiet=True))
        runs_shown(clock, tmp_path, quiet=True)
    assert shown.raw == ""


def test_a_long_epoch_into_a_pipe_has_a_line_every_ten_seconds_with_the_time_left(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run = RunDisplay()
    with run.watching():
        for second in range(35):
            run.progress(at(0, batch=second, epochs=30))
            clock.now += 1
    lines = sys.stderr.getvalue().splitlines()
    assert [line.partition(";")[0] for line in lines] == [f"epoch 1/30, step {step} of 10" for step in (10, 20, 30)]
    assert lines[0].endswith("; about 4 min 50 s left")


def test_a_line_is_repeated_while_nothing_is_reported(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(display, "_EPOCH_SECONDS", 0.02)
    shown = RunDisplay()
    with shown.watching():
        clock.now += 10.5  # data are read
        time.sleep(0.2)
        shown.progress(at(0))
        clock.now += 5
        shown.progress(at(1, line=LINE, epochs=1))  # the end: its test sentences are translated yet
        for _ in range(2):
            clock.now += 10.5
            time.sleep(0.2)
    lines = sys.stderr.getvalue().splitlines()
    assert lines[0] == "starting"
    assert lines[1].startswith("epoch 1/1: ")
    assert lines[2:] == ["measuring with the weights of the selected epoch"] * 2


def test_the_time_left_after_a_resume_counts_what_is_done_from_there(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    alone = RunDisplay()
    with alone.watching():
        alone.progress(at(90, batch=5, epochs=100))
        clock.now += 10
        alone.progress(at(100, batch=5, epochs=110))
    assert sys.stderr.getvalue().endswith("; about 9.5 s left\n")


def test_durations_are_said_as_people_do():
    assert [duration(seconds) for seconds in (3.21, 59, 250, 7500)] == ["3.2 s", "59 s", "4 min 10 s", "2 h 5 min"]
