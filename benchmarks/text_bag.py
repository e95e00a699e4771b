"""What a run of the recipe `text-bag` takes and reaches on IMDB: reading, vocabulary, training, test accuracy."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.timing import threads
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.options import RunOptions
from labelembed.lab.runs.run import run_recipe

OBJECTIVES = ("one_hot", "label_smoothing", "label_embedding")


@threads(2)
def run() -> None:
    """Prints the seconds of a whole run with two threads, and what it reached, for each objective."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LABELEMBED_DATA") or beside) / "imdb"
    if not folder.is_dir():
        print(f"IMDB is not at {folder}: name its parent folder in LABELEMBED_DATA")
        return
    for objective in OBJECTIVES:
        recipe, _ = load_recipe("text-bag", data=str(folder), objective=objective)
        began = time.perf_counter()
        data = build_data(recipe)
        read = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as out:
            result = run_recipe(recipe, Path(out) / "run", data=data, options=RunOptions(device="cpu"))
        whole = time.perf_counter() - began
        accuracy = {split: 1 - result[split]["error"] for split in ("validation", "test")}
        print(
            f"{objective:<16} {whole:6.1f} s a run, {read:.1f} s of it reading and counting words; accuracy "
            f"{accuracy['validation']:.2%} of {len(data.splits['validation']):,} validation examples, "
            f"{accuracy['test']:.2%} of {len(data.splits['test']):,} test examples"
        )
