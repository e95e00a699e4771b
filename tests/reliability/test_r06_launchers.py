"""R6: two processes that torchrun or `accelerate launch` started train what one trains, and a signal stops them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_survival import LOOPBACK, SELDOM, gloo
from tests.made_training import assert_same_run, newest, train
from tests.reliability.figures import sized

pytestmark = pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk")

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    # With --cpu it would start one process, whatever the number says.
    "accelerate launch": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}
SETTINGS = [
    "data.train_examples=401",
    "model.hidden_sizes=[16]",
    "batch_size=50",
    "objective=one_hot",  # E of label_embedding takes means of each micro-batch
    "micro_batches=2",
    "optimizer={name: sgd, learning_rate: 0.1}",
]


def launched(launcher, out, settings):
    options = [word for setting in settings for word in ("--set", setting)]
    words = ["-m", "labelembed", "train", "digits-mlp", *options, "--out", str(out), "--device", "cpu", "--json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.mark.parametrize("launcher", sized(short=[], full=LAUNCHERS))
def test_run_of_a_launcher_is_that_of_one_process_and_printed_once(launcher, tmp_path, figure):
    settings = [*SETTINGS, "epochs=3"]
    with launched(launcher, tmp_path / "two", settings) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    train(load_recipe("digits-mlp", settings=[*settings, "micro_batches=1"])[0], tmp_path / "one")
    assert_same_run(tmp_path / "two", tmp_path / "one")
    assert json.loads(out)["status"] == "finished"  # one line, of one process
    assert err.count("epoch 3/3") == 1
    figure.count("runs of a launcher that are those of one process", 1, 1)


@pytest.mark.parametrize("launcher", sized(short=[], full=LAUNCHERS))
def test_launcher_that_is_stopped_saves_and_the_run_goes_on(launcher, tmp_path, figure):
    folder, until = tmp_path / "run", time.monotonic() + 240
    settings = [*SETTINGS, "epochs=4000", "optimizer.learning_rate=0.02", SELDOM]
    with launched(launcher, folder, settings) as process:
        while len(RunFolder(folder).history()) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)  # which the run itself has open too
    assert process.returncode != 0  # the launcher's own code
    assert f"labelembed resume {folder}" in err
    epochs = len(RunFolder(folder).history())
    assert newest(folder).step >= 9 * epochs
    resumed = call("resume", str(folder), "--device", "cpu", "--json", "--epochs", epochs + 2)
    assert resumed.code == 0, resumed.err
    figure.count("stopped launchers after which the run went on", 1, 1)
