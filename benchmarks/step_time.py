"""Step time of each objective against one-hot: MLP 784-500-500-10, batch 100, Adam, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.timing import interleaved, print_ratios
from labelembed.models import MLP
from labelembed.objectives import LabelEmbedding, LabelSmoothing, OneHot

BATCH, LABELS = 100, 10


def training_step(objective: type[nn.Module], *, compiled: bool = False, **arguments: Any) -> Callable[[], None]:
    """Returns a function that makes one optimiser step on the next batch of made-up pixels."""
    torch.manual_seed(0)
    encoder = MLP(input_shape=(784,), initialization="paper")
    # Compiled code cannot branch on whether a row is ignored; there are none in classification.
    head = objective(500, LABELS, output_std=0.01, ignore_index=None if compiled else -100, **arguments)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], fused=True)
    inputs = torch.rand(60 * BATCH, 784).split(BATCH)
    labels = torch.randint(0, LABELS, (60 * BATCH,)).split(BATCH)

    def total(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = head(encoder(x), y).total
        return loss

    loss_of = torch.compile(total) if compiled else total
    position = 0

    def step() -> None:
        nonlocal position
        position = (position + 1) % len(inputs)
        loss = loss_of(inputs[position], labels[position])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        eager = {
            "one-hot": training_step(OneHot),
            "label smoothing": training_step(LabelSmoothing),
            "label embedding": training_step(LabelEmbedding),
            "label embedding, uniform 0.2": training_step(LabelEmbedding, uniform_weight=0.2),
        }
        print(" eager")
        goals = {"label embedding": 1.15, "label embedding, uniform 0.2": 1.15}
        print_ratios(interleaved(eager, rounds=10, calls=60), baseline="one-hot", goals=goals)
        compiled = {
            "one-hot, compiled": training_step(OneHot, compiled=True),
            "label embedding, compiled": training_step(LabelEmbedding, compiled=True),
        }
        print(" torch.compile")
        times = interleaved(compiled, rounds=10, calls=60)
        print_ratios(times, baseline="one-hot, compiled", goals={"label embedding, compiled": 1.05})
    finally:
        torch.set_num_threads(threads)
