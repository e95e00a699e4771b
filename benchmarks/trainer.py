"""The trainer's steps against those of a bare PyTorch loop, with the same network and optimiser, of MNIST's size."""

from __future__ import annotations

import statistics
import tempfile
import time

import torch

from benchmarks.made_data import mnist_sized
from benchmarks.step_time import BATCH, LABELS, network_of
from benchmarks.timing import threads
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.runs.build import build_data
from labelembed.lab.runs.run import run_recipe
from labelembed.lab.training.run_folder import RunFolder
from labelembed.objectives import OBJECTIVES

ROUNDS = 3


@threads(1)
def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = mnist_sized(folder)
        for name in ("one_hot", "label_embedding"):
            settings = ["epochs=3", "data.name=vectors", f"objective={name}", f"batch_size={BATCH}"]
            recipe, _ = load_recipe("mnist-mlp", data=str(path), settings=settings)
            data = build_data(recipe)
            ratios = []
            for number in range(ROUNDS):
                run_recipe(recipe, f"{folder}/{name}-{number}", data=data)
                history = RunFolder(f"{folder}/{name}-{number}").history()
                ratios.append(
                    statistics.median(line["training_seconds"] for line in history)
                    / statistics.median(_bare_epochs(name, len(data.splits["train"]), epochs=3))
                )
            shown = f"{statistics.mean(ratios):.3f} ± {statistics.stdev(ratios):.3f}, n = {ROUNDS}"
            print(f"  a step, {name:<20} {shown} of a bare loop's  (goal at most 1.05)")


def _bare_epochs(name: str, examples: int, *, epochs: int) -> list[float]:
    """Returns the seconds of each epoch of a loop that does nothing but train."""
    encoder, head, optimizer = network_of(OBJECTIVES[name])
    inputs, labels = torch.rand(examples, 784) * 255, torch.randint(0, LABELS, (examples,))
    seconds = []
    for epoch in range(epochs):
        head.start_epoch(epoch, epochs, -(-examples // BATCH))
        began = time.perf_counter()
        for rows in torch.randperm(examples).split(BATCH):
            loss = head(encoder(inputs[rows] / 255), labels[rows], rows).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
        head.end_epoch()
    return seconds
