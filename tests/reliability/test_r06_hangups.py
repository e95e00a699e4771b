"""R6: a terminal that is closed stops a run as SIGTERM does; one that nobody reads any more stops none."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from labelembed.training.interruption import stop_on_signals
from labelembed.training.run_folder import RunFolder
from tests.made_survival import SELDOM
from tests.made_training import contents, differences, newest, no_flush, one_thread  # noqa: F401

pytestmark = pytest.mark.skipif(not hasattr(os, "login_tty"), reason="needs terminals")

# Takes a terminal for its own and becomes the program, where wanted one that outlives the terminal, as `nohup` has it.
ON_TERMINAL = """
import os, signal, sys
terminal, hangup, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
os.login_tty(terminal)
signal.signal(signal.SIGHUP, signal.SIG_IGN if hangup == "ignored" else signal.SIG_DFL)
os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
os.execv(sys.executable, [sys.executable, "-m", "labelembed", *sys.argv[4:]])
"""


@contextlib.contextmanager
def on_terminal(folder, words, *, hangup="answered"):
    """Gives the program with a terminal of its own, whose other end is given too; standard output is a file."""
    master, slave = os.openpty()
    start = [sys.executable, "-c", ON_TERMINAL, str(slave), hangup, str(folder / "stdout"), *words]
    process = subprocess.Popen(start, pass_fds=[slave], env=os.environ | {"TERM": "xterm"})
    os.close(slave)
    try:
        yield process, master
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            os.close(master)


def shown_until(master, process, holds):
    """Reads what is shown until something holds, or the program ends; returns it."""
    shown, until = b"", time.monotonic() + 150
    while not holds() and process.poll() is None:
        assert time.monotonic() < until, shown
        if select.select([master], [], [], 0.01)[0]:
            shown += os.read(master, 1 << 16)
    assert process.poll() is None, shown
    return shown.decode(errors="replace")


def loud(words):
    return [word for word in words if word != "--quiet"]


def test_closed_terminal_saves_the_step_and_the_run_goes_on(kinds, commands, expected, tmp_path):
    case, folder = kinds["rows"], tmp_path / "run"
    with on_terminal(tmp_path, loud(case.train(folder, saves=SELDOM))) as (process, master):
        shown = shown_until(master, process, lambda: len(RunFolder(folder).journal()) >= 2)
        os.close(master)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert "epoch" in shown
    assert newest(folder).step >= 16
    assert (tmp_path / "stdout").read_text() == ""
    (command,) = case.start(commands, case.resume(folder))
    assert command.code() == 0, command.output()
    assert differences(contents(folder), expected("rows")) == []


def test_closed_terminal_stops_the_runs_of_a_comparison(tmp_path):
    out = tmp_path / "out"
    words = ["compare", "digits-mlp", "--objectives", "one_hot", "--seeds", "2", "--jobs", "2", "--device", "cpu"]
    with on_terminal(tmp_path, [*words, "--out", str(out), "--set", "epochs=4000", "--set", SELDOM]) as (
        process,
        master,
    ):
        shown_until(master, process, lambda: len(list(out.rglob("journal.jsonl"))) == 2)
        os.close(master)
        assert process.wait(60) == 128 + signal.SIGHUP
    runs = [RunFolder(path.parent) for path in out.rglob("recipe.yaml")]
    assert [run.state() for run in runs] == ["unfinished", "unfinished"]
    assert all(newest(run.path).step for run in runs if run.journal())


def test_run_that_is_to_outlive_its_terminal_does(kinds, expected, tmp_path):
    case, folder = kinds["rows"], tmp_path / "run"
    with on_terminal(tmp_path, loud(case.train(folder, saves=SELDOM)), hangup="ignored") as (process, master):
        shown_until(master, process, lambda: len(RunFolder(folder).journal()) >= 1)
        os.close(master)
        assert process.wait(150) == 0
    assert f"run folder: {folder}" in (tmp_path / "stdout").read_text()
    assert differences(contents(folder), expected("rows")) == []


def test_run_whose_progress_nobody_reads_any_more_goes_on(kinds, expected, tmp_path):
    case, folder = kinds["rows"], tmp_path / "run"
    start = [sys.executable, "-m", "labelembed", *loud(case.train(folder, saves=SELDOM))]
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stderr.readline()
        process.stderr.close()  # as `2>&1 | tee log` leaves it when tee is killed
        said = process.stdout.read()
    assert process.returncode == 0, said
    assert f"run folder: {folder}" in said
    assert differences(contents(folder), expected("rows")) == []


@pytest.fixture
def hangup_answered():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests were started with `nohup`
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_answered")
def test_hangup_is_never_the_second_signal():
    # The end of a session sends SIGTERM and then SIGHUP; a closed terminal sends SIGHUP, and so does its shell.
    for first in (signal.SIGTERM, signal.SIGHUP):
        with stop_on_signals() as stop:
            signal.raise_signal(first)
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal_number == first
