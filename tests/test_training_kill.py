"""Real processes, really killed: whatever moment it hits, `labelembed resume` ends with the unbroken run's numbers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from labelembed.recipes.loading import load_recipe
from labelembed.recipes.running import run_recipe
from labelembed.training.run_folder import RunFolder
from tests.made_training import (
    CommandLines,
    checkpoint_names,
    contents,
    differences,
    newest,
    one_thread,  # noqa: F401
    wait_until,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and SIGKILL")

# 8 steps an epoch, saved after every 3 steps and every epoch: at most times there is a save under way.
SETTINGS = [
    "data.train_rows=400",
    "model.hidden_sizes=[24]",
    "model.dropout=0.2",
    "batch_size=50",
    "epochs=20",
    "checkpoints={minimum_seconds: 0, every_steps: 3, time_share: 1}",
]
STEPS = 160
# The calls by which a save changes the disk. The third rename of a new run, of the journal, is the first with a run
# to resume; a resumed one writes its journal, then saves five or six files and their folder again and again.
CALLS = [
    *(f"fsync {number}" for number in range(1, 14, 2)),
    *(f"replace {number}" for number in range(1, 9)),
    *(f"rmtree {number}" for number in range(1, 4)),
]


def train_words(folder, settings=SETTINGS):
    options = [word for setting in settings for word in ("--set", setting)]
    return ["train", "digits-mlp", *options, "--out", str(folder), "--threads", "1", "--device", "cpu", "--quiet"]


def resume_words(folder):
    return ["resume", str(folder), "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    return CommandLines(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What a run that nobody disturbed leaves; made in this process, the others in processes of their own."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    # When it saves is no part of the numbers, so this one saves little.
    recipe, _ = load_recipe("digits-mlp", settings=[*SETTINGS[:-1], "checkpoints.minimum_seconds=1000"])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run_recipe(recipe, folder, device="cpu")
    torch.set_num_threads(before)
    return contents(folder)


def saves(folder):
    """Returns the folders of saves under way, or left by a kill."""
    return list((folder / "checkpoints").glob(".tmp-*"))


def step_of(folder):
    """Returns the step of the newest checkpoint by its name, 0 when there is none."""
    names = [path.name for path in (folder / "checkpoints").glob("step-*")]
    return int(max(names).removeprefix("step-")) if names else 0


def finish(folder, commands):
    command = commands.start(*resume_words(folder))
    assert command.code() == 0, command.output()
    assert "damaged" not in command.output()  # a kill leaves no broken checkpoint, whenever it comes


def test_run_killed_at_random_moments_ends_as_if_it_had_not(commands, expected, tmp_path):
    folder = tmp_path / "run"
    chance = random.Random(20261101)
    inside, kills = 0, 0
    words = train_words(folder)
    while kills < 8 or (inside < 2 and kills < 16):
        before = step_of(folder)
        command = commands.start(*words)
        aimed = kills % 2 == 1
        # Wherever it aims, the run must have moved on since the last kill.
        wait_until(lambda before=before: step_of(folder) > before, command)
        if aimed:
            wait_until(lambda: bool(saves(folder)), command)
        else:
            time.sleep(chance.uniform(0.0, 0.06))
        command.signal(signal.SIGKILL)
        assert command.code() == -signal.SIGKILL, command.output()
        kills += 1
        inside += bool(saves(folder))
        assert RunFolder(folder).state() == "unfinished"
        words = resume_words(folder)
    assert inside >= 2
    assert 0 < step_of(folder) < STEPS
    finish(folder, commands)
    assert differences(contents(folder), expected) == []
    assert saves(folder) == []


def test_run_killed_at_every_call_of_a_save_ends_as_if_it_had_not(commands, expected, tmp_path):
    folder = tmp_path / "run"
    words = train_words(folder)
    for kill_at in ["replace 3", *CALLS]:
        command = commands.start(*words, kill_at=kill_at)
        assert command.code() == -signal.SIGKILL, command.output()
        assert RunFolder(folder).state() == "unfinished"
        if step_of(folder):
            newest(folder)  # is whole
        words = resume_words(folder)
    finish(folder, commands)
    assert differences(contents(folder), expected) == []


def test_run_killed_before_its_first_checkpoint_begins_anew(commands, expected, tmp_path):
    folder = tmp_path / "run"
    command = commands.start(*train_words(folder, [*SETTINGS[:-1], "checkpoints.minimum_seconds=1000"]))
    wait_until(lambda: len(RunFolder(folder).journal()) >= 2, command)
    command.signal(signal.SIGKILL)
    assert command.code() == -signal.SIGKILL
    assert not (folder / "checkpoints").exists()
    assert RunFolder(folder).state() == "unfinished"
    finish(folder, commands)
    assert differences(contents(folder), expected) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_signal_saves_the_step_in_progress_and_says_how_to_go_on(number, commands, expected, tmp_path):
    folder = tmp_path / "run"
    command = commands.start(*train_words(folder, [*SETTINGS[:-1], "checkpoints.minimum_seconds=1000"]))
    wait_until(lambda: len(RunFolder(folder).journal()) >= 2, command)
    command.signal(number)
    assert command.code() == 128 + number
    assert f"labelembed resume {folder}" in command.output()
    assert "Traceback" not in command.output()
    assert len(checkpoint_names(folder)) == 1
    assert newest(folder).step >= 16
    assert RunFolder(folder).state() == "unfinished"
    finish(folder, commands)
    assert differences(contents(folder), expected) == []


def test_second_signal_leaves_at_once_and_the_run_can_still_be_resumed(commands, expected, tmp_path):
    folder = tmp_path / "run"
    command = commands.start(*train_words(folder))
    wait_until(lambda: step_of(folder) > 20, command)
    command.signal(signal.SIGTERM)
    command.signal(signal.SIGTERM)
    assert command.code() == 143
    finish(folder, commands)
    assert differences(contents(folder), expected) == []


def test_program_started_as_users_start_it_survives_a_kill(expected, tmp_path):
    folder = tmp_path / "run"
    program = [sys.executable, "-m", "labelembed"]
    with subprocess.Popen([*program, *train_words(folder)], stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 150
        while not (step_of(folder) and saves(folder)):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < until
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    words = [*program, *resume_words(folder), "--json"]
    answer = subprocess.run(words, capture_output=True, text=True, timeout=150)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["status"] == "finished"
    assert differences(contents(folder), expected) == []
