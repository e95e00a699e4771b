"""Eight seeds of the MNIST recipe's size with two processes against one, one thread each."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from labelembed.lab.runs.comparison_plan import plan_comparison

from benchmarks.made_data import mnist_sized
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.comparison import run_comparison

SEEDS, EPOCHS = 8, 3


def run() -> None:
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"epochs={EPOCHS}", "data.name=vectors"]
        recipe, name = load_recipe("mnist-mlp", data=str(mnist_sized(folder)), settings=settings)
        for jobs in (1, 2):
            out = Path(folder) / f"jobs-{jobs}"
            plan = plan_comparison(recipe, name, out, objectives="label_embedding", seeds=str(SEEDS))
            began = time.perf_counter()
            failed = run_comparison(plan, out, jobs=jobs)
            seconds[jobs] = time.perf_counter() - began
            if failed:
                raise RuntimeError(f"runs failed: {failed}")
    print(
        f"  {SEEDS} seeds of {EPOCHS} epochs          --jobs 1 {seconds[1]:.1f} s, --jobs 2 {seconds[2]:.1f} s: "
        f"{seconds[1] / seconds[2]:.2f} times faster, n = 1  (goal at least 1.80)"
    )
