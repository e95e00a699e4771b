"""Step time of each objective against one-hot: MLP 784-500-500-10, batch 100, Adam, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.timing import interleaved, print_ratios, threads
from labelembed.lab.models import MLP
from labelembed.objectives import OBJECTIVES, LabelEmbedding, OneHot

BATCH, LABELS, BATCHES = 100, 10, 60
# They need a teacher, vectors, or a table of the examples.
NEED_MORE = ("distillation", "static_labels", "retrospection")


def network_of(objective: Callable[..., nn.Module], **arguments: Any) -> tuple[MLP, nn.Module, torch.optim.Adam]:
    """Returns encoder, objective and optimiser as the MNIST recipe starts them."""
    torch.manual_seed(0)
    encoder = MLP(input_shape=(784,), initialization="paper")
    head = objective(500, LABELS, **arguments)
    torch.nn.init.trunc_normal_(head.output.weight, std=0.01)
    return encoder, head, torch.optim.Adam([*encoder.parameters(), *head.parameters()], fused=True)


def training_step(
    objective: Callable[..., nn.Module], *, compiled: bool = False, **arguments: Any
) -> Callable[[], None]:
    """Returns a function that makes one optimiser step on the next batch of made-up pixels."""
    encoder, head, optimizer = network_of(objective, **arguments)
    head.start_epoch(0, 10, BATCHES)
    examples = torch.arange(BATCHES * BATCH)
    inputs = torch.rand(len(examples), 784).split(BATCH)
    labels = torch.randint(0, LABELS, (len(examples),)).split(BATCH)
    places = examples.split(BATCH)

    def total(x: torch.Tensor, y: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = head(encoder(x), y, indices).total
        return loss

    loss_of = torch.compile(total) if compiled else total
    position = 0

    def step() -> None:
        nonlocal position
        position = (position + 1) % len(inputs)
        loss = loss_of(inputs[position], labels[position], places[position])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@threads(1)
def run() -> None:
    eager = {name: training_step(objective) for name, objective in OBJECTIVES.items() if name not in NEED_MORE}
    eager["label_embedding, shared"] = training_step(LabelEmbedding, auxiliary="shared")
    print(" eager, batch 100")
    goals = {"label_embedding": 1.10}
    print_ratios(interleaved(eager, rounds=10, calls=60), baseline="one_hot", goals=goals)
    compiled = {
        "one_hot, compiled": training_step(OneHot, compiled=True),
        "label_embedding, compiled": training_step(LabelEmbedding, compiled=True),
    }
    print(" torch.compile")
    times = interleaved(compiled, rounds=10, calls=60)
    print_ratios(times, baseline="one_hot, compiled", goals={"label_embedding, compiled": 1.03})
