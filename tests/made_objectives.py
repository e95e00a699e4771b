"""Every objective with the arguments it needs, and batches for it, for the tests of objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES, Objective
from labelembed.seeds import generator, seeded

# Rows of the made training set: what objectives that remember rows are built for.
ROWS = 256

# What an objective cannot be built without, by its name, from the number of labels.
NEEDED: dict[str, Callable[[int], dict[str, Any]]] = {
    "distillation": lambda num_labels: {"teacher_logits": teacher_logits(num_labels)},
    "static_labels": lambda num_labels: {"embedding": label_vectors(num_labels)},
    "retrospection": lambda num_labels: {"num_rows": ROWS},
}

# Settings worth a test of their own beside the defaults: name of the case to objective and arguments.
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in OBJECTIVES} | {
    "confidence_penalty, strong": ("confidence_penalty", {"penalty_weight": 0.7}),
    "teacher_free, paper": ("teacher_free", {"preset": "paper", "temperature": 3.0, "teacher_weight": 0.6}),
    "teacher_free, sure": ("teacher_free", {"preset": "paper", "true_probability": 1.0, "teacher_weight": 0.4}),
    "teacher_free, sharp": ("teacher_free", {"temperature": 0.5, "true_probability": 0.7, "teacher_weight": 1.0}),
    "distillation, warm": ("distillation", {"temperature": 1.0, "teacher_weight": 0.5}),
    "distillation, alone": ("distillation", {"temperature": 7.0, "teacher_weight": 1.0}),
    "static_labels, narrow": ("static_labels", {"delta": 0.3, "normalize": False}),
    "static_labels, squared": ("static_labels", {"loss": "squared"}),
    "static_labels, cosine": ("static_labels", {"loss": "cosine", "normalize": False}),
}


def teacher_logits(num_labels: int, *, rows: int = ROWS) -> Tensor:
    """Returns made logits [rows, C] of a teacher."""
    return 3 * torch.randn(rows, num_labels, generator=generator(0, "teacher"))


def label_vectors(num_labels: int, *, dimension: int | None = None) -> LabelGeometry:
    """Returns made vectors [C, C + 2] of labels `0`, `1`, ..., of different lengths."""
    dimension = num_labels + 2 if dimension is None else dimension
    table = torch.randn(num_labels, dimension, generator=generator(0, "vectors"))
    lengths = torch.linspace(0.5, 2, num_labels)[:, None]
    return LabelGeometry([str(label) for label in range(num_labels)], vectors=table * lengths)


def needed(name: str, num_labels: int) -> dict[str, Any]:
    """Returns the arguments that an objective must be given, made for so many labels."""
    return NEEDED[name](num_labels) if name in NEEDED else {}


def build(name: str, hidden_size: int, num_labels: int, **arguments: Any) -> Objective:
    """Returns an objective as it starts in the first of ten epochs, with what it needs and the arguments."""
    objective = OBJECTIVES[name](hidden_size, num_labels, **(needed(name, num_labels) | arguments))
    objective.begin_epoch(0, 10)
    return objective


def made_case(
    case: str,
    *,
    hidden_size: int = 4,
    num_labels: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **arguments: Any,
) -> Objective:
    """Returns the objective of a case away from its start: its parameters are noise, so that it is sure of itself."""
    name, given = CASES[case]
    with seeded(seed, "objective"):
        objective = build(name, hidden_size, num_labels, **(given | arguments)).to(dtype)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
    return objective


def made_rows(objective: Objective, count: int = 13, *, ignored: bool = True, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns hidden [count, H] and labels, three in four as the objective says, every fifth ignored."""
    source = generator(seed, "rows")
    hidden = torch.randn(count, objective.hidden_size, generator=source, dtype=torch.float64)
    hidden = hidden.to(objective.output.weight.dtype)
    with torch.no_grad():
        labels = objective.logits(hidden).argmax(dim=-1)
    labels[3::4] = (labels[3::4] + 1) % objective.num_labels
    if ignored:
        labels[::5] = -100
    return hidden, labels
