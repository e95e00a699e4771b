"""Runs to be damaged, stopped and finished ones, and all that reads the files of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

from labelembed.lab.training.run_folder import RunFolder
from tests.made_runs import forget_checksums
from tests.made_training import small_recipe, stop_after, train

RECIPES = {
    "label embedding": small_recipe(),
    "retrospection": small_recipe(objective={"name": "retrospection", "store_every": 1}),
}


def read_everything(folder: RunFolder) -> None:
    folder.state()
    folder.recipe()
    folder.environment()
    folder.history()
    folder.result()
    folder.read("diagnostics/errors.json")
    folder.examples()


def write_runs(place: Path) -> Path:
    """Writes a stopped and a finished run of each recipe, `half` and `done`."""
    for name, recipe in RECIPES.items():
        stop_after(recipe, place / name / "half", 7)
        train(recipe, place / name / "done")
        shutil.rmtree(place / name / "done" / "checkpoints")
        forget_checksums(place / name / "done")  # whoever means harm would write those that fit
    return place


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
