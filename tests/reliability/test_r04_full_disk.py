"""R4: a full disk leaves the last checkpoint whole, says what is free, and the run can go on."""

from __future__ import annotations

import re

import pytest

from labelembed.errors import LabelEmbedError
from labelembed.lab.errors import TrainingError
from labelembed.lab.runs.comparison import compare
from labelembed.lab.training.checkpoints import load_newest
from labelembed.lab.training.run_folder import RunFolder
from tests.made_full_disk import FailingDisk
from tests.made_training import contents, differences, small_recipe, train
from tests.reliability.figures import sized

# What is said of a full disk.
FREE = r"\(No space left on device\): [\d,]+ bytes are free; the last whole"
# Of the calls by which a run writes these are made to fail, evenly spread, each in a run of its own.
FAILED_CALLS = sized(short=14, full=1000)


def test_full_disk_at_any_call_of_a_run_is_told_and_costs_nothing_that_was_saved(tmp_path, figure):
    recipe = small_recipe()
    with FailingDisk(tmp_path / "unbroken").mounted() as disk:
        train(recipe, tmp_path / "unbroken")
    expected, calls = contents(tmp_path / "unbroken"), disk.calls
    assert {call.split()[0] for call in calls} >= {"open", "write", "fsync", "replace", "mkdir"}
    chosen = sorted({round(place * (len(calls) - 1) / (FAILED_CALLS - 1)) + 1 for place in range(FAILED_CALLS)})
    told = kept = same = 0
    for at in chosen:
        folder = tmp_path / str(at)
        # The disk stays full, or has room again at once: in both cases the run stops at the first call that fails.
        # That the lock cannot name its process stops no run, so there the disk stays full.
        names_lock = calls[at - 1].endswith(" .lock")
        disk = FailingDisk(folder, at=at, only_once=at % 2 == 0 and not names_lock)
        with disk.mounted(), pytest.raises(LabelEmbedError) as error:
            train(recipe, folder)
        message, begun = str(error.value), "replace recipe.yaml" in calls[: at - 1]
        assert message.startswith(f"{folder}: "), (calls[at - 1], message)
        if calls[at - 1].split()[-1] in (folder.name, "unbroken") or at == 1:
            told += (error.value.exit_code, "No space left on device" in message) == (2, True)  # nothing was begun
        else:
            told += error.value.exit_code == 1 and re.search(FREE, message) is not None
        assert RunFolder(folder).state() in (("unfinished", "failed") if begun else ("empty",))
        saved = [int(call.split("-")[1]) for call in disk.calls[: at - 1] if call.startswith("replace step-")]
        checkpoint, damaged = load_newest(folder / "checkpoints")
        kept += damaged == [] and (checkpoint.step if checkpoint else None) == (saved[-1] if saved else None)
        train(recipe, folder)  # there is room again
        same += differences(contents(folder), expected) == []
        left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
        assert left == [], (calls[at - 1], left)
    figure.count("full disk told with free bytes", told, len(chosen))
    figure.count("last checkpoint whole", kept, len(chosen))
    figure.count("ended bit-equal when there was room", same, len(chosen))


def test_comparison_on_a_full_disk_says_what_is_free_and_goes_on_by_the_same_command(tmp_path):
    (tmp_path / "out").mkdir()
    settings = {"data.train_examples": 190, "model.hidden_sizes": [12], "epochs": 1}
    asked = {"objectives": "one_hot", "seeds": 1, "settings": settings, "out": tmp_path / "out", "device": "cpu"}
    disk = FailingDisk(tmp_path / "out" / ".comparison", at=1)
    with disk.mounted(), pytest.raises(TrainingError, match=FREE) as error:
        compare("digits-mlp", **asked, quiet=True)
    assert str(error.value).endswith("give the same command again")
    assert error.value.exit_code == 1
