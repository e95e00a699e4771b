"""What a tracker shows is the history, of a resumed run too."""

from __future__ import annotations

import json
import sys

import pytest

from labelembed.lab.training.device import make_accelerator
from labelembed.lab.training.reporter import TRACKERS, tracked
from tests.made_cli import call
from tests.made_runs import history_lines, make_run, metrics


def watched(folder, lines, *, names=(), warn=pytest.fail):
    """Ends these epochs as the loop does: into the history, then to the trackers."""
    with tracked(folder, names, warn) as log:
        for line in lines:
            folder.append_history(line)
            log(line)


def tensorboard_of(path):
    """Returns what TensorBoard reads, [(epoch, value), ...] by name."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reading.EventAccumulator(str(path / "tensorboard"))
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run that has begun."""
    monkeypatch.chdir(tmp_path)
    make_accelerator("float32", device="cpu")  # as a run has by then, for Accelerate's sake
    return make_run(tmp_path / "run", test=metrics(0.5))


@pytest.fixture
def tensorboard():
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")


@pytest.mark.usefixtures("tensorboard")
def test_epochs_and_configuration_are_those_of_the_run_and_of_a_resumed_one(folder):
    lines = history_lines([0.5, None, 0.25, 0.2, 0.1])
    watched(folder, lines[:3], names=["tensorboard"])
    folder.keep_history(2)  # killed before a checkpoint had the third
    watched(folder, lines[2:])  # it goes on unasked
    shown, history = tensorboard_of(folder.path), folder.history()
    for name in ("seconds", "train/total", "train/output", "validation/nll", "test/nll"):  # each epoch once
        split, _, metric = name.rpartition("/")
        values = {line["epoch"]: (line[split] or {}).get(metric) if split else line[metric] for line in history}
        expected = [(epoch, pytest.approx(value, rel=1e-6)) for epoch, value in values.items() if value is not None]
        assert shown.get(name, []) == expected
    config, *_ = (folder.path / "tensorboard").glob("*/hparams.yml")
    assert "optimizer.learning_rate: 0.0" in config.read_text()


def test_wandb_gets_the_run_once_and_under_the_same_id_when_it_is_resumed(folder, monkeypatch):
    seen = []

    class Made:
        def __init__(self, project, **named):
            seen.append((project, named["id"], named["resume"]))

        def start(self): ...

        def store_init_configuration(self, values):
            seen.append(values["seed"])

        def log(self, values, step):
            seen.append((step, values["train/total"]))

        def finish(self):
            seen.append("over")

    monkeypatch.setattr("accelerate.tracking.WandBTracker", Made)
    lines = history_lines([0.5, 0.4])
    watched(folder, lines[:1], names=["wandb"])
    watched(folder, lines[1:])
    started = ("labelembed", json.loads((folder.path / "tracking.json").read_text())["wandb"], "allow")
    ends = [[started, folder.recipe()["seed"], (line["epoch"], line["train"]["total"]), "over"] for line in lines]
    assert seen == [*ends[0], *ends[1]]


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.parametrize("method", ["start", "log"])
def test_tracker_that_fails_is_left_out_with_a_warning(method, folder, monkeypatch):
    def failing(self, *_):
        raise ConnectionError("no answer")

    monkeypatch.setattr(f"accelerate.tracking.TensorBoardTracker.{method}", failing)
    said = []
    watched(folder, history_lines([0.5, 0.4]), names=["tensorboard"], warn=said.append)
    assert said == ["--track tensorboard has failed and is left out (ConnectionError: no answer)"]


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_without_its_package_exits_2_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[name], None)
    called = call("train", "digits-mlp", "--track", name, "--out", tmp_path / "out")
    assert called.code == 2
    assert f"--track {name} needs the package {name}" in called.err
    assert not (tmp_path / "out").exists()
