"""R6: a terminal that is closed stops a run as SIGTERM does; one that nobody reads any more stops none."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from labelembed.lab.training.run_folder import RunFolder
from tests.made_survival import SELDOM
from tests.made_terminal import Terminal
from tests.made_training import contents, differences, newest
from tests.reliability.figures import FULL

pytestmark = pytest.mark.skipif(not hasattr(os, "login_tty"), reason="needs terminals")

# Takes a terminal for its own and becomes the program: only so the system sends SIGHUP.
ON_TERMINAL = """
import os, signal, sys
terminal, out = int(sys.argv[1]), sys.argv[2]
os.login_tty(terminal)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests were started with `nohup`
os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), 1)
os.execv(sys.executable, [sys.executable, "-m", "labelembed", *sys.argv[3:]])
"""


@contextlib.contextmanager
def on_terminal(folder, words):
    """Gives the program with a terminal of its own, whose other end is given too; standard output is a file."""
    master, slave = os.openpty()
    start = [sys.executable, "-c", ON_TERMINAL, str(slave), str(folder / "stdout"), *words]
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


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
def test_closed_terminal_saves_the_step_and_the_run_goes_on(kinds, commands, expected, tmp_path):
    case, folder = kinds["rows"], tmp_path / "run"
    with on_terminal(tmp_path, loud(case.train(folder, saves=SELDOM))) as (process, master):
        shown = shown_until(master, process, lambda: len(RunFolder(folder).history()) >= 2)
        os.close(master)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert "epoch" in shown
    assert newest(folder).step >= 16
    assert (tmp_path / "stdout").read_text() == ""
    (command,) = case.start(commands, case.resume(folder))
    assert command.code() == 0, command.output()
    assert differences(contents(folder), expected("rows")) == []


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
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


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
def test_comparison_in_a_pseudo_terminal_from_start_to_end(tmp_path):
    words = ["compare", "digits-mlp", "--set", "epochs=12", "--set", "data.train_examples=400", "--seeds", "1"]
    words += ["--set", "model.hidden_sizes=[8]", "--objectives", "one_hot,label_embedding", "--jobs", "1"]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160", "OMP_NUM_THREADS": "1"}
    master, slave = os.openpty()
    command = [sys.executable, "-m", "labelembed", *words, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, env=environment, text=True)
    os.close(slave)
    shown = Terminal()
    shown.take(master)
    out, _ = process.communicate(timeout=240)
    os.close(master)
    assert process.returncode == 0, shown.text
    assert re.search(r"0 of 2 runs [━ ╸╺]+[0-9:]+ +about .* left", shown.text)
    assert re.search(
        r"  label_embedding seed 0 +[━ ╸╺]+[0-9:-]+ +epoch \d+/12 validation error [\d.]+%.*; total [\d.]+", shown.text
    )
    assert re.search(r"2 of 2 runs [━ ╸╺]+[0-9:]+ +done", shown.text)
    assert "\x1b" not in out  # the table goes into a pipe, and the bar does not
    assert "label_embedding" in out
