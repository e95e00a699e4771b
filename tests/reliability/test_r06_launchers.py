"""R6: a launcher that is stopped stops its processes after the same step, and the run goes on."""

from __future__ import annotations

import signal
import time

import pytest

from labelembed.training.run_folder import RunFolder
from labelembed.training.run_lock import LOCK
from tests.made_cli import call
from tests.made_survival import gloo
from tests.made_training import newest, one_thread  # noqa: F401
from tests.reliability.figures import sized
from tests.test_training_launchers import SETTINGS, launched

pytestmark = pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")
# Not those of Accelerate, which ends without handing a signal on to its processes.
STOPS = sized(short=[], full=[signal.SIGTERM, signal.SIGINT])


@pytest.mark.parametrize("number", STOPS)
def test_launcher_that_is_stopped_saves_and_the_run_goes_on(number, tmp_path):
    folder = tmp_path / "run"
    settings = [*SETTINGS, "epochs=400", "optimizer.learning_rate=0.02", "checkpoints={minimum_seconds: 1000}"]
    with launched("torchrun", folder, settings) as process:
        until = time.monotonic() + 240
        while len(RunFolder(folder).journal()) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.005)
        assert (folder / LOCK).exists()
        process.send_signal(number)
        _, err = process.communicate(timeout=240)
    assert process.returncode != 0  # the launcher's own code
    assert f"labelembed resume {folder}" in err
    assert not (folder / LOCK).exists()
    assert newest(folder).step >= 18
    before = len(RunFolder(folder).journal())
    resumed = call("resume", str(folder), "--device", "cpu", "--json")
    assert resumed.code == 0, resumed.err
    assert before < len(RunFolder(folder).journal()) == 400
