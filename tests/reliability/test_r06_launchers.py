"""R6: a launcher that is stopped or killed, or a closed terminal, stops its processes, and the run goes on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

import pytest

from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_survival import SELDOM, gloo
from tests.made_training import contents, differences, newest
from tests.reliability.figures import FULL, sized
from tests.test_training_launchers import ALONE, SETTINGS, launched

EPOCHS = 4000
# Which of them hears what; of those of one process the first dies at once of every signal, and hands on none.
STOPS = sized(
    short=[],
    full=[
        *((ALONE, number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)),
        *((name, number) for name in ("torchrun", "accelerate launch") for number in (signal.SIGTERM, signal.SIGKILL)),
        ("torchrun", signal.SIGINT),
    ],
)
# Takes a terminal for its own and becomes the program: only so the system sends SIGHUP.
ON_TERMINAL = """
import os, signal, sys
os.login_tty(int(sys.argv[1]))
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests were started with `nohup`
os.execv(sys.executable, [sys.executable, "-m", "labelembed", *sys.argv[2:]])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent has ended")
@pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")
@pytest.mark.parametrize(("launcher", "number"), STOPS)
def test_launcher_that_is_stopped_or_killed_saves_and_the_run_goes_on(launcher, number, tmp_path, figure):
    folder, until = tmp_path / "run", time.monotonic() + 240
    settings = [*SETTINGS, f"epochs={EPOCHS}", "optimizer.learning_rate=0.02", SELDOM]
    with launched(launcher, folder, settings) as process:
        while len(RunFolder(folder).history()) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)  # which the run itself has open too
    assert process.returncode != 0  # the launcher's own code
    epochs = len(RunFolder(folder).history())
    assert f"labelembed resume {folder}" in err
    assert 9 * epochs <= newest(folder).step < 9 * EPOCHS
    resumed = call("resume", str(folder), "--device", "cpu", "--json", "--epochs", epochs + 2)
    assert resumed.code == 0, resumed.err
    assert len(RunFolder(folder).history()) == epochs + 2
    figure.count("launchers stopped or killed whose run was saved and went on", 1, 1)


@pytest.mark.skipif(not FULL or not hasattr(os, "login_tty"), reason="in the full form only: needs terminals")
def test_closed_terminal_saves_the_step_and_the_run_goes_on(kinds, commands, expected, tmp_path):
    case, folder, until = kinds["rows"], tmp_path / "run", time.monotonic() + 150
    words = [word for word in case.train(folder, saves=SELDOM) if word != "--quiet"]
    master, slave = os.openpty()
    start = [sys.executable, "-c", ON_TERMINAL, str(slave), *words]
    with subprocess.Popen(start, pass_fds=[slave], env=os.environ | {"TERM": "xterm"}) as process:
        os.close(slave)
        while len(RunFolder(folder).history()) < 2:
            assert time.monotonic() < until
            if select.select([master], [], [], 0.01)[0]:
                os.read(master, 1 << 16)
        os.close(master)
        assert process.wait(60) == 128 + signal.SIGHUP
    assert newest(folder).step >= 16
    case.finish(commands, folder)
    assert differences(contents(folder), expected("rows")) == []
