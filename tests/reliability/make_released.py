"""Makes the run folder that a release leaves behind for the releases after it: stopped in the middle, with its result.

Run it once with the release installed, from the root of the checkout, and never again for that version:

    python -m tests.reliability.make_released
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import torch

import labelembed
from labelembed.lab.runs import options as environment
from labelembed.lab.training.run_folder import RunFolder
from tests.made_training import small_recipe, stop_after, train

RELEASED = Path(__file__).parent / "released"
STOPPED_AT = 7


def make(place: Path) -> None:
    """Writes `run`, stopped after step 7 of 15, and `expected.json`: the history and the result of the whole run."""
    torch.set_num_threads(1)
    recipe = small_recipe(schedule={"name": "cosine"})
    run = place / "run"
    argv = mock.patch.object(sys, "argv", ["labelembed", "train", "recipe.yaml"])
    place_names = mock.patch.object(environment.platform, "platform", return_value="a platform")
    with argv, place_names, mock.patch.multiple(environment, _processor=lambda: "a processor", _commit=lambda: None):
        stop_after(recipe, run, STOPPED_AT)
    for left in [run / ".lock", *sorted((run / "checkpoints").iterdir())[:-1]]:
        left.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as whole:
        result = train(recipe, Path(whole) / "run")
        history = RunFolder(Path(whole) / "run").history()
    known = ("epochs", "selected_epoch", "selected_by", "parameters", "train", "validation", "test", "temperature")
    expected = {
        "stopped_at": STOPPED_AT,
        "result": {key: result[key] for key in known},
        "history": [{key: line[key] for key in ("epoch", "train", "validation", "test")} for line in history],
    }
    (place / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    place = RELEASED / labelembed.__version__
    if place.exists():
        sys.exit(f"{place}: is there already, and a release has one run only")
    place.mkdir(parents=True)
    make(place)
    print(place)
