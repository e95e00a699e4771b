"""What a tracker shows is the history, of a resumed run too."""

from __future__ import annotations

import json
import sys

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.lab.training.device import make_accelerator
from labelembed.lab.training.reporter import TRACKERS, tracked
from tests.made_cli import SMALL, call, succeed
from tests.made_data import write_idx_folder
from tests.made_runs import history_lines, make_run, metrics
from tests.made_tracking import RECIPE_KEY, expected_of, read_mlflow, read_tensorboard, read_wandb
from tests.reliability.figures import sized

# The packages warn of each other: MLflow's tables of what SQLAlchemy will drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def watched(folder, lines, *, names=(), warn=pytest.fail):
    """Ends these epochs as the loop does: into the history, then to the trackers."""
    with tracked(folder, names, warn) as log:
        for line in lines:
            folder.append_history(line)
            log(line)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run that has begun; what trackers write goes below the test's folder, and nothing leaves this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    make_accelerator("float32", device="cpu")  # as a run has by then, for Accelerate's sake
    return make_run(tmp_path / "run", test=metrics(0.5))


@pytest.fixture(params=sized(short=["tensorboard", "wandb"], full=list(TRACKERS)))
def tracker(request):
    pytest.importorskip(TRACKERS[request.param], reason=f"{request.param} is not installed (extra `track`)")
    return request.param


def test_epochs_and_configuration_are_those_of_the_run_and_of_a_resumed_one(folder, tracker):
    lines = history_lines([0.5, None, 0.25, 0.2, 0.1])
    watched(folder, lines[:3], names=[tracker])
    if tracker != "wandb":  # which without a server begins another file
        folder.keep_history(2)  # killed before a checkpoint had the third
        watched(folder, lines[2:])  # it goes on unasked
    shown, config = READERS[tracker](folder.path)
    if tracker != "mlflow":  # which keeps both
        assert shown == expected_of(folder.path)  # each epoch once
    assert {step for step, _ in shown["test/error"]} == ({1, 3} if tracker == "wandb" else {1, 3, 4, 5})
    assert {"train/total", "train/output", "validation/nll", "learning_rate", "seconds"} <= shown.keys()
    assert str(config[RECIPE_KEY]) == str(folder.recipe()["optimizer"]["learning_rate"])


def test_tracker_that_fails_while_training_is_left_out_with_a_warning(folder, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")

    def failing(self, values, step=None):
        raise ConnectionError("no answer")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.log", failing)
    said = []
    watched(folder, history_lines([0.5, 0.4]), names=["tensorboard"], warn=said.append)
    assert said == ["tensorboard has failed and is left out (ConnectionError: no answer)"]


def test_tracker_that_cannot_start_is_an_error_where_it_was_named(folder, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")
    watched(folder, history_lines([0.5]), names=["tensorboard"])
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delattr("torch.utils.tensorboard", raising=False)
    said = []
    watched(folder, history_lines([0.5, 0.4])[1:], warn=said.append)
    assert said[0].startswith("--track tensorboard: cannot be started (")
    with pytest.raises(LabelEmbedError, match="--track tensorboard: cannot be started"):
        watched(folder, [], names=["tensorboard"])


@pytest.mark.parametrize("name", TRACKERS)
def test_tracker_without_its_package_exits_2_before_anything_is_written(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[name], None)
    called = call("train", "digits-mlp", "--track", name, "--out", tmp_path / "out")
    assert called.code == 2
    assert f"--track {name} needs the package {name}" in called.err
    assert f"pip install {name}, or all trackers: pip install 'labelembed[track]'" in called.err
    assert not (tmp_path / "out").exists()


def test_train_leaves_the_log(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (extra `track`)")
    monkeypatch.chdir(tmp_path)
    write_idx_folder(tmp_path / "mnist")
    succeed("train", "mnist-mlp", "--data", "mnist", *SMALL, "--out", "run", "--track", "tensorboard")
    assert read_tensorboard(tmp_path / "run")[0] == expected_of(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "tracking.json").read_text()) == {"tensorboard": ""}
