"""R2: processes really killed: whatever moment it hits, the same command ends with the unbroken run's numbers."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from labelembed.lab.training.run_folder import RunFolder
from tests.made_survival import KINDS, interrupt_runs, saves, step_of
from tests.made_training import contents, differences, newest, wait_until
from tests.reliability.figures import sized

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and SIGKILL")

# The calls by which a save changes the disk. The third rename of a new run, of the history, is the first with a run
# to resume; a resumed one writes its history, then saves a file again and again.
CALLS = [
    *(f"fsync {number}" for number in sized(short=range(1, 5, 2), full=range(1, 9))),
    *(f"replace {number}" for number in sized(short=range(1, 5, 2), full=range(1, 9))),
    *(f"unlink {number}" for number in sized(short=range(2, 6, 2), full=range(1, 12))),
]
KILLS = dict(zip(KINDS, sized(short=(4, 2, 0, 0), full=(100, 50, 30, 20)), strict=True))


@pytest.mark.parametrize("name", [name for name, number in KILLS.items() if number])
def test_runs_killed_at_random_moments_end_as_if_they_had_not(name, commands, kinds, expected, tmp_path, figure):
    case, chance = kinds[name], random.Random(20261101)
    inside = []  # whether each kill was inside a save

    def kill(folder, words):
        before, started = step_of(folder), case.start(commands, words)
        aimed = len(inside) % 2 == 0
        victim = started[0] if aimed else chance.choice(started)  # the first one saves
        wait_until(lambda: step_of(folder) > before, victim)
        if aimed:
            wait_until(lambda: bool(saves(folder)), victim)
        else:
            time.sleep(chance.uniform(0.0, 0.06))
        if not victim.running():
            assert [command.code() for command in started] == [0] * len(started), victim.output()
            return False
        victim.signal(signal.SIGKILL)
        codes = [command.code() for command in started]
        if RunFolder(folder).state() == "finished":  # the signal came after the last file
            return False
        assert sorted(codes) == [-signal.SIGKILL, 1][: len(codes)], victim.output()
        assert RunFolder(folder).state() == "unfinished"
        inside.append(bool(saves(folder)))
        return True

    interrupt_runs(case, KILLS[name], tmp_path, commands, expected(name), kill)
    kills = len(inside)
    figure.count("kills after which the same command ended with the unbroken run's numbers", kills, KILLS[name])
    figure.count("kills inside a save, where a quarter of all was wanted", sum(inside), -(-kills // 4))


def test_run_killed_at_every_call_of_a_save_ends_as_if_it_had_not(commands, kinds, expected, tmp_path, figure):
    case, runs = kinds["rows"], 0
    for kill_at in CALLS:
        folder = tmp_path / f"run-{runs}"
        if not runs or step_of(folder) > 0.8 * case.steps:
            if runs:
                case.finish(commands, folder)
                assert differences(contents(folder), expected("rows")) == []
            runs, folder = runs + 1, tmp_path / f"run-{runs + 1}"
            assert commands.start(*case.train(folder), kill_at="replace 3").code() == -signal.SIGKILL
        command = commands.start(*case.resume(folder), kill_at=kill_at)
        assert command.code() == -signal.SIGKILL, command.output()
        assert RunFolder(folder).state() == "unfinished"
        if step_of(folder):
            newest(folder)  # is whole
    case.finish(commands, folder)
    assert differences(contents(folder), expected("rows")) == []
    figure.count("calls of a save at which a run was killed and resumed", len(CALLS), len(CALLS))
