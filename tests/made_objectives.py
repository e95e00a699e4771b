"""Every objective in every mode that has sums, tables or a state of its own, and batches for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from labelembed.geometry import LabelGeometry
from labelembed.objectives import OBJECTIVES, Objective
from labelembed.seeds import generator, seeded

# Examples of the made training set: what objectives that remember examples are built for.
EXAMPLES = 256

# What an objective cannot be built without, by its name, from the number of labels.
NEEDED: dict[str, Callable[[int], dict[str, Any]]] = {
    "distillation": lambda num_labels: {"teacher_logits": teacher_logits(num_labels)},
    "static_labels": lambda num_labels: {"embedding": label_vectors(num_labels)},
    "retrospection": lambda num_labels: {"num_examples": EXAMPLES, "store_every": 1},
}

# A confidence limit that some examples exceed, so that the hinge acts.
_ACTING = {"confidence_limit": 0.2}
MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_hot": ("one_hot", {}),
    "one_hot, chunked": ("one_hot", {"impl": "chunked"}),
    "label_smoothing": ("label_smoothing", {"smoothing": 0.3}),
    "label_smoothing, chunked": ("label_smoothing", {"smoothing": 0.3, "impl": "chunked"}),
    "label_embedding": ("label_embedding", _ACTING),
    "label_embedding, published": ("label_embedding", _ACTING | {"preset": "published_code"}),
    "label_embedding, mixture": ("label_embedding", _ACTING | {"preset": "mixture"}),
    "label_embedding, compressed": ("label_embedding", _ACTING | {"embedding": "compressed", "rank": 3}),
    "label_embedding, shared": ("label_embedding", {"auxiliary": "shared", "initial_scale": "log"}),
    "label_embedding, fixed": ("label_embedding", {"embedding": "SAVED"}),
    "label_embedding, warmup": ("label_embedding", _ACTING | {"target_warmup": 0.5}),
    "label_embedding, chunked": ("label_embedding", _ACTING | {"impl": "chunked"}),
    "label_embedding, chunked sum": (
        "label_embedding",
        _ACTING | {"preset": "published_code", "uniform_weight": 0.2, "impl": "chunked"},
    ),
    "label_embedding, chunked compressed": (
        "label_embedding",
        _ACTING | {"embedding": "compressed", "rank": 3, "impl": "chunked"},
    ),
    "label_embedding, chunked shared": ("label_embedding", {"auxiliary": "shared", "impl": "chunked"}),
    "label_embedding, chunked warmup": ("label_embedding", _ACTING | {"target_warmup": 0.5, "impl": "chunked"}),
    "confidence_penalty": ("confidence_penalty", {"penalty_weight": 0.7}),
    "teacher_free": ("teacher_free", {"teacher_weight": 0.5}),
    "distillation": ("distillation", {"temperature": 2.0}),
    "static_labels": ("static_labels", {"delta": 0.5}),
    "adaptive_labels": ("adaptive_labels", {}),
    "adaptive_labels, repel": ("adaptive_labels", {"label_dimension": 12, "repel_weight": 3.0}),
    "adaptive_labels, paper": ("adaptive_labels", {"preset": "paper", "update_every": 2, "warmup_steps": 1}),
    "adaptive_labels, last": ("adaptive_labels", {"prediction": "last", "update_every": 2}),
    "online_label_smoothing": ("online_label_smoothing", {"momentum": 0.8}),
    "online_label_smoothing, published": ("online_label_smoothing", {"preset": "published"}),
    "retrospection": ("retrospection", {}),
    "retrospection, steps": ("retrospection", {"store": "steps"}),
    "retrospection, progressive": ("retrospection", {"preset": "progressive"}),
}
assert {name for name, _ in MODES.values()} == set(OBJECTIVES)
# The same computations with other numbers, for those who compare numbers.
MORE_MODES: dict[str, tuple[str, dict[str, Any]]] = {
    "label_smoothing, all": ("label_smoothing", {"smoothing": 1.0}),
    "label_embedding, summed": ("label_embedding", _ACTING | {"preset": "published_code", "temperature": 0.7}),
    "label_embedding, shared mixture": ("label_embedding", {"auxiliary": "shared", "preset": "mixture"}),
    "label_embedding, shared compressed": (
        "label_embedding",
        {"auxiliary": "shared", "embedding": "compressed", "rank": 3},
    ),
    "label_embedding, fixed uniform": ("label_embedding", {"embedding": "SAVED", "uniform_weight": 0.3}),
    "label_embedding, chunked fixed": ("label_embedding", {"embedding": "SAVED", "impl": "chunked"}),
    "teacher_free, sure": ("teacher_free", {"true_probability": 1.0, "teacher_weight": 0.4}),
    "teacher_free, sharp": ("teacher_free", {"temperature": 0.5, "true_probability": 0.7, "teacher_weight": 1.0}),
    "distillation, mixture": ("distillation", {"temperature": 1.0, "teacher_weight": 0.7, "uniform_weight": 0.15}),
    "distillation, alone": ("distillation", {"temperature": 7.0, "teacher_weight": 1.0}),
    "static_labels, narrow": ("static_labels", {"delta": 0.3, "normalize": False}),
    "adaptive_labels, narrow": ("adaptive_labels", {"label_dimension": 2, "repel_weight": 0.7}),
    "adaptive_labels, algorithm 1": ("adaptive_labels", {"preset": "paper", "repel_weight": 3.0}),
    "online_label_smoothing, soft": (
        "online_label_smoothing",
        {"similarity_weight": 0.6, "uniform_weight": 0.4},
    ),
    "retrospection, port": ("retrospection", {"preset": "published_port"}),
}


def teacher_logits(num_labels: int, *, examples: int = EXAMPLES) -> Tensor:
    """Returns made logits [examples, C] of a teacher."""
    return 3 * torch.randn(examples, num_labels, generator=generator(0, "teacher"))


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
    if arguments.get("embedding") == "SAVED":
        table = torch.randn(num_labels, num_labels, generator=generator(0, "saved"))
        names = [str(label) for label in range(num_labels)]
        arguments = arguments | {"embedding": LabelGeometry(names, similarities=table)}
    objective = OBJECTIVES[name](hidden_size, num_labels, **(needed(name, num_labels) | arguments))
    objective.start_epoch(0, 10, steps=3)
    return objective


def made_mode(
    mode: str,
    *,
    hidden_size: int = 4,
    num_labels: int = 5,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    **arguments: Any,
) -> Objective:
    """Returns the objective of a mode away from its start: its parameters are noise, so that it is confident."""
    name, given = (MODES | MORE_MODES)[mode]
    with seeded(seed, "objective"):
        objective = build(name, hidden_size, num_labels, **(given | arguments)).to(dtype)
        with torch.no_grad():
            for parameter in objective.parameters():
                parameter.normal_()
    return objective


def made_examples(
    objective: Objective, *shape: int, ignored: bool = True, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns hidden [*shape, H], labels and indices [*shape]; three in four predicted right, every fifth ignored."""
    shape = shape or (13,)
    source = generator(seed, "rows")
    hidden = torch.randn(*shape, objective.hidden_size, generator=source, dtype=torch.float64)
    hidden = hidden.to(objective.output.weight.dtype)
    layer = getattr(objective, "auxiliary", None) or objective.logits
    with torch.no_grad():
        labels = layer(hidden).argmax(dim=-1)
    flat = labels.view(-1)
    flat[3::4] = (flat[3::4] + 1) % objective.num_labels
    if ignored:
        flat[::5] = -100
    indices = torch.randperm(EXAMPLES, generator=generator(seed, "indices"))[: labels.numel()].view(shape)
    return hidden, labels, indices


def passes(*batches: tuple[Tensor, Tensor, Tensor]) -> Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]]:
    """Returns what `end_epoch` takes: the made examples once more."""
    return lambda: iter(batches)
