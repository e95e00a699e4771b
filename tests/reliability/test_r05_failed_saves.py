"""R5: a save that fails stops the run at once, with the folder and the reason; nothing goes on training."""

from __future__ import annotations

import errno
import shutil

import pytest

from labelembed.lab.errors import TrainingError
from labelembed.lab.runs.comparison import compare
from labelembed.lab.training.run_folder import RunFolder
from tests.made_full_disk import FailingDisk
from tests.made_in_process import make_runs_here
from tests.made_small_disk import outcome_on_small_disk
from tests.made_training import (
    BATCHES,
    after_steps,
    contents,
    differences,
    small_recipe,
    train,
)
from tests.reliability.figures import FULL

KINDS = {
    errno.EROFS: "cannot save (Read-only file system)",
    errno.EACCES: "cannot save (Permission denied)",
    errno.EDQUOT: "the disk is full (your quota of it is used up): ",
    errno.EIO: "cannot save (Input/output error)",
    errno.ESTALE: "cannot save (Stale file handle)",
}
# The file whose writing fails, and the optimiser steps that are made by then.
PLACES = {
    "history.jsonl": BATCHES,
    ".network.safetensors.writing": BATCHES,
    ".model.safetensors.writing": 3 * BATCHES,
    ".label_geometry.safetensors.writing": 3 * BATCHES,
    ".errors.json.writing": 3 * BATCHES,
    ".result.json.writing": 3 * BATCHES,
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """What the small run leaves, and the calls by which it writes."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with FailingDisk(folder).mounted() as disk:
        train(small_recipe(), folder)
    return contents(folder), disk.calls


@pytest.mark.parametrize("number", KINDS, ids=errno.errorcode.get)
def test_any_failed_save_stops_the_run_at_once(number, unbroken, tmp_path, figure):
    expected, calls = unbroken
    stopped = same = 0
    for place, steps in PLACES.items():
        folder = tmp_path / place.strip(".")
        made = []
        at = calls.index(f"open {place}") + 1
        disk = FailingDisk(folder, at=at, number=number, only_once=True)
        with disk.mounted(), after_steps(1, lambda made=made: made.append(1)), pytest.raises(TrainingError) as error:
            train(small_recipe(), folder)
        assert str(error.value).startswith(f"{folder}: {KINDS[number]}"), place
        stopped += (error.value.exit_code, len(made)) == (1, steps)
        train(small_recipe(), folder)
        same += differences(contents(folder), expected) == []
    figure.count("failed saves that stopped the run at once", stopped, len(PLACES))
    figure.count("ended bit-equal when it could be saved", same, len(PLACES))


@pytest.mark.parametrize("every_steps", [None, 1], ids=["saved every epoch", "saved every step"])
def test_run_folder_removed_during_the_run_stops_it_and_is_not_made_anew(every_steps, tmp_path, figure):
    folder, made = tmp_path / "run", []
    checkpoints = {"minimum_seconds": 0.0, "every_steps": every_steps}

    def remove():
        made.append(1)
        if len(made) == BATCHES + 2:
            shutil.rmtree(folder)

    with after_steps(1, remove), pytest.raises(TrainingError) as error:
        train(small_recipe(checkpoints=checkpoints), folder)
    assert str(error.value).startswith(f"{folder}: cannot save (No such file or directory), the folder is not there")
    assert error.value.exit_code == 1
    # At the first save after it was removed.
    assert len(made) == (BATCHES + 2 if every_steps else 2 * BATCHES)
    assert not folder.exists()
    figure.count("removed run folders noticed", 1, 1)


@pytest.mark.skipif(not FULL, reason="in the full form only: a program that imports torch")
def test_real_file_system_that_becomes_read_only_under_a_run(tmp_path, figure):
    run = outcome_on_small_disk(tmp_path, "read-only")["run"]
    assert f"{tmp_path / 'disk' / 'run'}: cannot save (Read-only file system); the last whole" in run["message"]
    assert (run["code"], run["kept"], run["damaged"], run["differences"]) == (1, BATCHES, [], [])
    assert run["steps"] == 2 * BATCHES
    figure.count("real read-only file systems noticed", 1, 1)


def test_run_of_a_comparison_that_cannot_be_saved_is_failed_with_the_reason_and_the_others_are_made(
    tmp_path, monkeypatch
):
    make_runs_here(monkeypatch)
    settings = {"data.train_examples": 190, "model.hidden_sizes": [12], "batch_size": 40, "epochs": 2}
    names = ["one_hot", "label_smoothing", "label_embedding"]
    folders = [tmp_path / "runs" / name / "seed-0" for name in names]
    folders[1].mkdir(parents=True)
    (folders[1] / "checkpoints").write_text("a file stands where the checkpoints go")
    asked = {"objectives": names, "seeds": 1, "settings": settings, "out": tmp_path, "device": "cpu", "quiet": True}
    failed = compare("digits-mlp", **asked).failed
    assert list(failed) == ["label_smoothing seed 0"]
    assert "cannot save (File exists)" in failed["label_smoothing seed 0"]
    assert [RunFolder(folder).state() for folder in folders] == ["finished", "failed", "finished"]
    (folders[1] / "checkpoints").unlink()
    assert compare("digits-mlp", **asked).failed == {}


# ---- single saves
