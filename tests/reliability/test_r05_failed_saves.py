"""R5: a save that fails stops the run at once, with the folder and the reason; nothing goes on training."""

from __future__ import annotations

import errno
import shutil

import pytest

from labelembed.lab.errors import TrainingError
from tests.made_full_disk import FailingDisk
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
    with after_steps(1, remove), pytest.raises(TrainingError, match="cannot save") as error:
        train(recipe, folder)
    assert error.value.exit_code == 1
    # At the first save after it was removed.
    assert len(made) == (BATCHES + 2 if every_steps else 2 * BATCHES)
    assert not folder.exists()
    figure.count("removed run folders noticed", 1, 1)
