"""R1: a run of two processes that was stopped and goes on in two is, to the last bit, the one that was not."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES
from tests.made_survival import SELDOM, cases, gloo
from tests.made_training import (
    CommandLines,
    contents,
    differences,
    newest,
    objective_cases,
    wait_until,
    with_saved_geometry,
)
from tests.reliability.figures import sized

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork server and signals"),
    pytest.mark.skipif(not gloo, reason="this torch has no gloo, by which processes on a CPU talk"),
]


@pytest.mark.parametrize("name", sized(short=[], full=list(OBJECTIVES)))
def test_two_processes_go_on_as_if_they_had_not_been_stopped(name, tmp_path, figure):
    # With dropout: of the 51 rows of a step one has 26, so that they draw unlike.
    (tmp_path / "outputs").mkdir()
    commands = CommandLines(tmp_path / "outputs")
    objective = with_saved_geometry(objective_cases()[name], tmp_path)
    text = ", ".join(f"{key}: {value}" for key, value in objective.items())
    case = cases(tmp_path)["rows, two processes"]
    case = replace(case, settings=[*case.settings, f"objective={{{text}}}", "micro_batches=2", "batch_size=51"])
    folder = tmp_path / "run"
    started = case.start(commands, case.train(folder, saves=SELDOM))
    wait_until(lambda: len(RunFolder(folder).history()) >= 2, started[0])
    for command in started:
        command.signal(signal.SIGTERM)
    assert [command.code() for command in started] == [143, 143], started[0].output()
    assert 16 <= newest(folder).step < case.steps
    for command in case.start(commands, case.resume(folder)):
        assert command.code() == 0, command.output()
    assert differences(contents(folder), case.unbroken(commands, tmp_path / "unbroken")) == []
    figure.count("objectives of which two processes resume bit-equal", 1, 1)
