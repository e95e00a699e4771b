"""Step time of each objective against one-hot: MLP 784-500-500-10, batch 100, Adam, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.timing import interleaved, print_ratios
from labelembed.geometry import LabelGeometry
from labelembed.lab.models import MLP
from labelembed.objectives import (
    AdaptiveLabels,
    ConfidencePenalty,
    Distillation,
    LabelEmbedding,
    LabelSmoothing,
    OneHot,
    OnlineLabelSmoothing,
    Retrospection,
    StaticLabels,
    TeacherFree,
)

BATCH, LABELS, BATCHES = 100, 10, 60


def training_step(
    objective: Callable[..., nn.Module], *, compiled: bool = False, batch: int = BATCH, **arguments: Any
) -> Callable[[], None]:
    """Returns a function that makes one optimiser step on the next batch of made-up pixels."""
    torch.manual_seed(0)
    encoder = MLP(input_shape=(784,), initialization="paper")
    head = objective(500, LABELS, **arguments)
    torch.nn.init.trunc_normal_(head.output.weight, std=0.01)
    head.start_epoch(0, 10, BATCHES)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], fused=True)
    examples = torch.arange(BATCHES * batch)
    inputs = torch.rand(len(examples), 784).split(batch)
    labels = torch.randint(0, LABELS, (len(examples),)).split(batch)
    places = examples.split(batch)

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


def storing(*, store: str) -> Callable[..., nn.Module]:
    """Returns retrospection in an epoch that reads what is stored, and with `steps` stores anew."""

    def make(hidden_size: int, num_labels: int, **arguments: Any) -> nn.Module:
        objective = Retrospection(
            hidden_size, num_labels, num_examples=BATCHES * BATCH, store_every=1, store=store, **arguments
        )
        objective.storings += 1  # as if something were stored
        return objective

    return make


def run() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        names = [str(number) for number in range(LABELS)]
        vectors = LabelGeometry(names, vectors=torch.randn(LABELS, 384))
        teacher = torch.randn(BATCHES * BATCH, LABELS)
        eager = {
            "one-hot": training_step(OneHot),
            "label smoothing": training_step(LabelSmoothing),
            "label embedding": training_step(LabelEmbedding),
            "label embedding, uniform 0.2": training_step(LabelEmbedding, uniform_weight=0.2),
            "label embedding, shared head": training_step(LabelEmbedding, auxiliary="shared"),
            "online label smoothing": training_step(OnlineLabelSmoothing),
            "online smoothing, published": training_step(OnlineLabelSmoothing, preset="published"),
            "adaptive labels": training_step(AdaptiveLabels),
            "adaptive labels, 10 C": training_step(AdaptiveLabels, label_dimension=100),
            "retrospection": training_step(storing(store="pass")),
            "retrospection, storing": training_step(storing(store="steps")),
            "confidence penalty": training_step(ConfidencePenalty),
            "teacher-free": training_step(TeacherFree),
            "distillation": training_step(Distillation, teacher_logits=teacher),
            "static labels": training_step(StaticLabels, embedding=vectors),
        }
        print(" eager, batch 100")
        goals = {name: 1.15 for name in eager if name != "one-hot"}
        print_ratios(interleaved(eager, rounds=10, calls=60), baseline="one-hot", goals=goals)
        large = {
            "one-hot, batch 500": training_step(OneHot, batch=500),
            "adaptive labels, repel": training_step(AdaptiveLabels, batch=500, repel_weight=10.0),
            "adaptive labels, 10 C, repel": training_step(
                AdaptiveLabels, batch=500, label_dimension=100, repel_weight=10.0
            ),
        }
        print(" eager, batch 500")
        goals = {name: 1.25 for name in large if "adaptive" in name}
        print_ratios(interleaved(large, rounds=10, calls=20), baseline="one-hot, batch 500", goals=goals)
        compiled = {
            "one-hot, compiled": training_step(OneHot, compiled=True),
            "label embedding, compiled": training_step(LabelEmbedding, compiled=True),
        }
        print(" torch.compile")
        times = interleaved(compiled, rounds=10, calls=60)
        print_ratios(times, baseline="one-hot, compiled", goals={"label embedding, compiled": 1.05})
    finally:
        torch.set_num_threads(threads)
