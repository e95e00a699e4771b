"""Makes the run folder that a release leaves behind for the releases after it: stopped in the middle, with its result.

Run it once with the release installed, from the root of the checkout, and never again for that version:

    python -m tests.reliability.make_released
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from unittest import mock

import torch

import labelembed
from labelembed.lab.runs import options
from labelembed.lab.training.run_folder import RunFolder
from tests.made_training import small_recipe, stop_after, train

PLACE = Path(__file__).parent / "released" / labelembed.__version__
STOPPED_AT = 7
RESULT = ("epochs", "selected_epoch", "selected_by", "parameters", "train", "validation", "test", "temperature")


def make() -> None:
    """Writes `run`, stopped after step 7 of 15, and `expected.json`: the history and the result of the whole run."""
    torch.set_num_threads(1)
    recipe, run, whole = small_recipe(schedule={"name": "cosine"}), PLACE / "run", PLACE / "whole"
    commit = mock.patch.object(options, "_commit", return_value=None)
    platform = mock.patch.object(options.platform, "platform", return_value="a platform")
    command = mock.patch.object(sys, "argv", ["labelembed", "train", "recipe.yaml"])
    with commit, platform, command:
        stop_after(recipe, run, STOPPED_AT)
    for left in [run / ".lock", *sorted((run / "checkpoints").iterdir())[:-1]]:
        left.unlink(missing_ok=True)
    result, history = train(recipe, whole), RunFolder(whole).history()
    expected = {
        "stopped_at": STOPPED_AT,
        "result": {key: result[key] for key in RESULT},
        "history": [{key: line[key] for key in ("epoch", "train", "validation", "test")} for line in history],
    }
    (PLACE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    shutil.rmtree(whole)


if __name__ == "__main__":
    PLACE.mkdir(parents=True)  # a release has one run only
    make()
