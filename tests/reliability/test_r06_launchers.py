"""R6: a launcher that is stopped stops its processes after the same step, and the run goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

import pytest

from labelembed.lab.runs.run_lock import LOCK
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_survival import SELDOM, gloo
from tests.made_training import newest
from tests.reliability.figures import sized
from tests.test_training_launchers import SETTINGS, launched

EPOCHS = 4000
# Which of them hears what; a launcher of one process dies at once of every signal, and hands on none.
STOPS = sized(
    short=[],
    full=[
        *((name, signal.SIGTERM) for name in ("torchrun", "accelerate launch")),
        ("torchrun", signal.SIGINT),
    ],
)
only_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent has ended"
)


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
    while len(RunFolder(folder).history()) < 2:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)
    assert (folder / LOCK).exists()


def saved_and_goes_on(folder, err, steps_of_epoch):
    """Holds what a run has left that was stopped, and has it go on."""
    epochs = len(RunFolder(folder).history())
    assert f"labelembed resume {folder}" in err
    assert newest(folder).step >= epochs * steps_of_epoch
    assert epochs < EPOCHS
    more = ["--set", f"epochs={epochs + 2}"]
    resumed = call("resume", str(folder), "--device", "cpu", "--json", *more)
    assert resumed.code == 0, resumed.err
    assert len(RunFolder(folder).history()) == epochs + 2


@only_linux
@pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")
@pytest.mark.parametrize(("launcher", "number"), STOPS)
def test_launcher_that_is_stopped_saves_and_the_run_goes_on(launcher, number, tmp_path, figure):
    folder = tmp_path / "run"
    settings = [*SETTINGS, f"epochs={EPOCHS}", "optimizer.learning_rate=0.02", SELDOM]
    with launched(launcher, folder, settings) as process, none_left(folder):
        under_way(process, folder)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)  # which the run itself has open too
    assert process.returncode != 0  # the launcher's own code
    saved_and_goes_on(folder, err, 9)
    figure.count("launchers stopped whose run was saved and went on", 1, 1)
