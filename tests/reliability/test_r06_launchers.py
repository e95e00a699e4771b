"""R6: a launcher that is stopped or killed stops its processes after the same step, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from labelembed.cli import launched as launched_side
from labelembed.cli.launched import is_launcher
from labelembed.training import interruption
from labelembed.training.interruption import signal_has_come, stop_on_signals
from labelembed.training.run_folder import RunFolder
from labelembed.training.run_lock import LOCK
from tests.made_cli import call
from tests.made_survival import SELDOM, gloo
from tests.made_training import newest, one_thread  # noqa: F401
from tests.reliability.figures import sized
from tests.test_training_launchers import ALONE, SETTINGS, launched

EPOCHS = 4000
# Which of them hears what; of those of one process the first dies at once of every signal, and hands on none.
STOPS = sized(
    short=[(ALONE, signal.SIGTERM)],
    full=[
        *((ALONE, number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)),
        *((name, number) for name in ("torchrun", "accelerate launch") for number in (signal.SIGTERM, signal.SIGKILL)),
        ("torchrun", signal.SIGINT),
    ],
)
only_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells what the parent is")


@contextlib.contextmanager
def none_left(folder):
    """Ends, after a test that has failed, the run that nobody waits for."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int((folder / LOCK).read_text().split()[0]), signal.SIGKILL)
        raise


def under_way(process, folder):
    """Waits until a run has made two epochs."""
    until = time.monotonic() + 240
    while len(RunFolder(folder).journal()) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)
    assert (folder / LOCK).exists()


def saved_and_goes_on(folder, err, steps_of_epoch):
    """Holds what a run has left that was stopped, and has it go on."""
    epochs = len(RunFolder(folder).journal())
    assert f"labelembed resume {folder}" in err
    assert newest(folder).step >= epochs * steps_of_epoch
    assert epochs < EPOCHS
    more = ["--force", "--set", f"epochs={epochs + 2}"]
    resumed = call("resume", str(folder), "--device", "cpu", "--json", *more)
    assert resumed.code == 0, resumed.err
    assert len(RunFolder(folder).journal()) == epochs + 2


@only_linux
@pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")
@pytest.mark.parametrize(("launcher", "number"), STOPS)
def test_launcher_that_is_stopped_or_killed_saves_and_the_run_goes_on(launcher, number, tmp_path, figure):
    folder = tmp_path / "run"
    settings = [*SETTINGS, f"epochs={EPOCHS}", "optimizer.learning_rate=0.02", SELDOM]
    with launched(launcher, folder, settings) as process, none_left(folder):
        under_way(process, folder)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)  # which the run itself has open too
    assert process.returncode != 0  # the launcher's own code
    saved_and_goes_on(folder, err, 9)
    figure.count("launchers stopped or killed whose run was saved and went on", 1, 1)


PARENT = """
import subprocess, sys
subprocess.Popen([sys.executable, "-m", "labelembed", *sys.argv[1:]]).wait()
"""


@contextlib.contextmanager
def started_by(script, folder):
    """Gives a Python script that has started a run, and the process of the run, once that is under way."""
    script.write_text(PARENT)
    words = ["train", "digits-mlp", "--out", str(folder), "--device", "cpu", "--quiet", "--set", "data.train_rows=400"]
    words += [word for setting in (f"epochs={EPOCHS}", "batch_size=50", SELDOM) for word in ("--set", setting)]
    start = [sys.executable, str(script), *words]
    with subprocess.Popen(start, stderr=subprocess.PIPE, text=True) as process, none_left(folder):
        under_way(process, folder)
        yield process, int((folder / LOCK).read_text().split()[0])


@only_linux
def test_run_goes_on_without_a_parent_that_is_no_launcher(tmp_path):
    folder = tmp_path / "run"
    with started_by(tmp_path / "background", folder) as (parent, run):
        parent.kill()
        time.sleep(launched_side._LOOK_SECONDS + launched_side._GRACE_SECONDS + 1.0)
        before = len(RunFolder(folder).journal())
        until = time.monotonic() + 60
        while len(RunFolder(folder).journal()) == before:
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(run, signal.SIGTERM)
        saved_and_goes_on(folder, parent.communicate(timeout=60)[1], 8)


def test_signal_that_comes_to_the_run_itself_is_known(monkeypatch):
    monkeypatch.setattr(interruption._WATCH, "has_come", False)
    with stop_on_signals() as stop:
        assert not signal_has_come()
        signal.raise_signal(signal.SIGINT)
        until = time.monotonic() + 10
        while not signal_has_come():
            assert time.monotonic() < until
    assert stop.by_signal


def test_signal_is_sent_once_and_only_if_none_has_come(monkeypatch):
    sent, parents = [], iter([4711, 4711, 1])
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append((process, number)))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    monkeypatch.setattr(launched_side, "signal_has_come", lambda: False)
    launched_side._watch(4711)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    parents = iter([1])
    monkeypatch.setattr(launched_side, "signal_has_come", lambda: True)
    launched_side._watch(4711)
    assert len(sent) == 1


LAUNCHING = [
    "python -m accelerate.commands.launch --cpu train.py",
    "/opt/bin/python3.11 /opt/bin/accelerate launch -m labelembed",
    "/opt/bin/python3 -u /opt/bin/accelerate-launch train.py",
    "python -m accelerate.commands.accelerate_cli launch train.py",
    "/opt/bin/python /opt/bin/torchrun --nproc-per-node 2 -m labelembed",
    "torchrun -m labelembed",
    "python3 -u -m torch.distributed.run -m labelembed",
]
NOT_LAUNCHING = [
    "bash",
    "-bash",
    "/bin/sh -c torchrun",
    "bash run.sh torchrun",
    "python sweep.py --launcher torchrun",
    "python my_torchrun.py",
    "accelerate config",
    "python -m accelerate.commands.accelerate_cli config",
    "python",
    "",
]


@pytest.mark.parametrize("line", LAUNCHING)
def test_command_line_of_a_launcher_is_known(line):
    assert is_launcher(line.split())


@pytest.mark.parametrize("line", NOT_LAUNCHING)
def test_other_command_lines_are_none(line):
    assert not is_launcher(line.split())
