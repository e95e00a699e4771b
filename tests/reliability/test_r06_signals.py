"""R6: after a signal the step is saved, the exit code is 128 and its number, no lock is left, and the run goes on.

Real processes are signalled where that is what is tested: at random moments, and with worker processes below.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from labelembed.lab.runs.run_lock import LOCK
from labelembed.lab.training.device import SIGNALS
from labelembed.lab.training.run_folder import RunFolder
from tests.made_cli import call
from tests.made_survival import KINDS, SELDOM, interrupt_runs, step_of
from tests.made_training import newest, wait_until
from tests.reliability.figures import sized

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and signals")

HOW_MANY = dict(zip(KINDS, sized(short=(4, 1, 0, 0), full=(60, 24, 10, 6)), strict=True))


@pytest.mark.parametrize("name", [name for name, number in HOW_MANY.items() if number])
def test_signals_at_random_moments_leave_a_run_that_goes_on(name, commands, kinds, expected, tmp_path, figure):
    case, chance = kinds[name], random.Random(20261122)

    def signalled(folder, words):
        number, before = chance.choice(SIGNALS), step_of(folder)
        started = case.start(commands, words)
        for command in started:
            wait_until(command.ready, command)
        if chance.random() < 0.7:  # the others come while data are read and the network is built
            wait_until(lambda: step_of(folder) > before, started[0])
        time.sleep(chance.uniform(0.0, 0.2))
        for command in started:  # as torchrun hands it on
            command.signal(number)
        codes = {command.code() for command in started}
        said = "".join(command.output() for command in started)
        if 0 in codes and RunFolder(folder).state() == "finished":  # it had written its result
            assert codes <= {0, 128 + number}, codes
            return False
        assert codes == {128 + number}, said
        assert "Traceback" not in said
        begun = RunFolder(folder).state() != "empty"
        assert "give the same command again" in said or (begun and f"labelembed resume {folder}" in said)
        assert "stopped in epoch" not in said or newest(folder).step > before
        return True

    interrupt_runs(case, HOW_MANY[name], tmp_path, commands, expected(name), signalled)
    what = "signals answered with 129, 130 or 143, after which the run ended as an unbroken one"
    figure.count(what, HOW_MANY[name], HOW_MANY[name])


def test_signal_to_the_parent_stops_its_workers_and_the_same_command_goes_on(commands, tmp_path):
    out = tmp_path / "out"
    settings = ["data.train_examples=400", "model.hidden_sizes=[24]", "batch_size=50", "epochs=4000", SELDOM]
    words = ["compare", "digits-mlp", *(word for setting in settings for word in ("--set", setting))]
    words += ["--out", str(out), "--device", "cpu", "--quiet", "--jobs", "2", "--objectives", "label_smoothing"]

    def lines():
        return sum(path.read_bytes().count(b"\n") for path in out.rglob("history.jsonl"))

    for number in sized(short=[signal.SIGTERM], full=[signal.SIGTERM, signal.SIGINT]):
        before, command = lines(), commands.start(*words, "--seeds", "2")  # goes on with what the first one has saved
        wait_until(lambda before=before: lines() > before + 2, command)
        command.signal(number)
        assert command.code() == 128 + number, command.output()
        assert "Traceback" not in command.output()
        assert "give the same command again" in command.output()
        runs = [RunFolder(path.parent) for path in out.rglob("recipe.yaml")]
        assert {run.state() for run in runs} == {"unfinished"}
        assert all(newest(run.path).step >= 8 * len(run.history()) for run in runs if run.history())


BEFORE_TRAINING = {
    "train": (["train"], "labelembed.lab.runs.task.build_data"),
    "compare": (["compare", "--jobs", "1"], "labelembed.lab.runs.comparison.build_data"),
    "train, before the first step": (["train"], "labelembed.lab.training.trainer.to_device_if_fits"),
}


@pytest.mark.parametrize("verb", BEFORE_TRAINING)
@pytest.mark.parametrize("number", sized(short=[signal.SIGTERM], full=SIGNALS))
def test_signal_before_anything_is_written_leaves_nothing(verb, number, monkeypatch, tmp_path):
    (name, *words), place = BEFORE_TRAINING[verb]
    out = tmp_path / "out" / "folder"
    began = []

    def hit(*_, **__):
        began.append((out / LOCK).exists())
        signal.raise_signal(number)

    monkeypatch.setattr(place, hit)
    called = call(name, "digits-mlp", *words, "--out", out, "--device", "cpu")
    assert called.code == 128 + number
    assert "give the same command again" in called.err
    assert began == [True]
    assert list(tmp_path.iterdir()) == []
