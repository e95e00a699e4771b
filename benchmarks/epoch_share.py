"""What the trainer adds: to the steps of an epoch of MNIST's size, and to each step of a bare PyTorch loop."""

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
from labelembed.lab.training.trainer import Trainer
from labelembed.objectives import OBJECTIVES

EPOCHS, ROUNDS = 4, 3


@threads(1)
def run() -> None:
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
    steps = len(spent) // EPOCHS
    shares = []
    for number, line in enumerate(history):
        in_steps = sum(spent[number * steps : (number + 1) * steps])
        shares.append(1 - in_steps / line["seconds"])
    print(f"  an epoch                    {statistics.median(line['seconds'] for line in history):.2f} s, n = {EPOCHS}")
    print(
        f"  evaluation and data         {statistics.mean(shares):.1%} ± {statistics.stdev(shares):.1%}  (goal < 10 %)"
    )
    _compare_with_bare_loop()


def _compare_with_bare_loop() -> None:
    """Prints the time of the trainer's steps as a ratio to a bare loop's, with the same network and optimiser."""
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
