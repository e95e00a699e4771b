"""Two processes started by torchrun and by `accelerate launch`, as users start them."""

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
from tests.made_survival import SELDOM, gloo
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
WHOLE = [*SETTINGS, "micro_batches=1"]


def launched(launcher, out, settings):
    options = [word for setting in settings for word in ("--set", setting)]
    words = ["-m", "labelembed", "train", "digits-mlp", *options, "--out", str(out), "--device", "cpu", "--json"]
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": loopback}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


@pytest.mark.parametrize("launcher", sized(short=[], full=["torchrun", "accelerate launch"]))
def test_run_of_a_launcher_is_that_of_one_process_and_printed_once(launcher, tmp_path):
    settings = ["epochs=3"]
    with launched(launcher, tmp_path / "two", [*SETTINGS, *settings]) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    recipe, _ = load_recipe("digits-mlp", settings=[*WHOLE, *settings])
    train(recipe, tmp_path / "one")
    assert_same_run(tmp_path / "two", tmp_path / "one")
    assert json.loads(out)["status"] == "finished"  # one line, of one process
    assert err.count("epoch 3/3") == 1


@pytest.mark.parametrize(("launcher", "number"), sized(short=[], full=[(name, signal.SIGTERM) for name in LAUNCHERS]))
def test_launcher_that_is_stopped_saves_and_the_run_goes_on(launcher, number, tmp_path):
    folder, until = tmp_path / "run", time.monotonic() + 240
    settings = [*SETTINGS, "epochs=4000", "optimizer.learning_rate=0.02", SELDOM]
    with launched(launcher, folder, settings) as process:
        while len(RunFolder(folder).history()) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)  # which the run itself has open too
    assert process.returncode != 0  # the launcher's own code
    assert f"labelembed resume {folder}" in err
    epochs = len(RunFolder(folder).history())
    assert newest(folder).step >= 9 * epochs
    resumed = call("resume", str(folder), "--device", "cpu", "--json", "--epochs", epochs + 2)
    assert resumed.code == 0, resumed.err
