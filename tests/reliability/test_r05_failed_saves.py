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
from tests.made_training import BATCHES, after_steps, contents, differences, small_recipe, train

KINDS = {
    errno.EROFS: "Read-only file system",
    errno.EACCES: "Permission denied",
    errno.EDQUOT: "Disk quota exceeded",
    errno.EIO: "Input/output error",
    errno.ESTALE: "Stale file handle",
}
# The beginning of the name of the file whose writing fails, and the optimiser steps that are made by then.
PLACES = {
    "history.jsonl": BATCHES,
    ".step-0000000005": BATCHES,
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
        folder, made = tmp_path / place.strip("."), []
        at = 1 + next(index for index, call in enumerate(calls) if call.startswith(f"open {place}"))
        disk = FailingDisk(folder, at=at, number=number, only_once=True)
        with disk.mounted(), after_steps(1, lambda made=made: made.append(1)), pytest.raises(TrainingError) as error:
            train(small_recipe(), folder)
        assert str(error.value).startswith(f"{folder}: cannot save ({KINDS[number]})"), place
        stopped += (error.value.exit_code, len(made)) == (1, steps)
        train(small_recipe(), folder)
        same += differences(contents(folder), expected) == []
    figure.count("failed saves that stopped the run at once", stopped, len(PLACES))
    figure.count("ended bit-equal when it could be saved", same, len(PLACES))


@pytest.mark.parametrize("every_steps", [None, 1], ids=["saved every epoch", "saved every step"])
def test_run_folder_removed_during_the_run_stops_it_and_is_not_made_anew(every_steps, tmp_path, figure):
    folder, made = tmp_path / "run", []

    def remove():
        made.append(1)
        if len(made) == BATCHES + 2:
            shutil.rmtree(folder)

    recipe = small_recipe(checkpoints={"minimum_seconds": 0.0, "every_steps": every_steps})
    with after_steps(1, remove), pytest.raises(TrainingError, match="the folder is not there") as error:
        train(recipe, folder)
    assert error.value.exit_code == 1
    # At the first save after it was removed.
    assert len(made) == (BATCHES + 2 if every_steps else 2 * BATCHES)
    assert not folder.exists()
    figure.count("removed run folders noticed", 1, 1)


def test_run_of_a_comparison_that_cannot_be_saved_fails_alone_with_the_reason(tmp_path, monkeypatch):
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
