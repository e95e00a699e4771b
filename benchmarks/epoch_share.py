"""Share of an epoch of the MNIST recipe's size that is neither forward, backward nor optimiser step."""

from __future__ import annotations

import statistics
import tempfile
import time

import torch

from benchmarks.made_data import mnist_sized
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.training.run_folder import RunFolder
from labelembed.lab.training.trainer import Trainer

EPOCHS = 4


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent: list[float] = []
    original = Trainer._step

    def timed(trainer: Trainer, batch: object) -> None:
        began = time.perf_counter()
        original(trainer, batch)  # type: ignore[arg-type]
        spent.append(time.perf_counter() - began)

    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = [f"epochs={EPOCHS}", "data.name=vectors", "objective=one_hot"]
            recipe, _ = load_recipe("mnist-mlp", data=str(mnist_sized(folder)), settings=settings)
            Trainer._step = timed  # type: ignore[method-assign]
            run_recipe(recipe, f"{folder}/run", data=build_data(recipe))
            history = RunFolder(f"{folder}/run").history()
    finally:
        Trainer._step = original  # type: ignore[method-assign]
        torch.set_num_threads(threads)
    steps = len(spent) // EPOCHS
    shares = []
    for number, line in enumerate(history):
        in_steps = sum(spent[number * steps : (number + 1) * steps])
        shares.append(1 - in_steps / line["seconds"])
    evaluation = [1 - line["training_seconds"] / line["seconds"] for line in history]
    print(f"  an epoch                    {statistics.median(line['seconds'] for line in history):.2f} s, n = {EPOCHS}")
    print(
        f"  evaluation and data         {statistics.mean(shares):.1%} ± {statistics.stdev(shares):.1%}  (goal < 10 %)"
    )
    print(f"  of that, evaluation         {statistics.mean(evaluation):.1%} (15,000 rows)")
