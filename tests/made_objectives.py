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


def objective_of(mode: str) -> str:
    """Returns the name of the objective of a mode."""
    return mode.partition(",")[0]


# A confidence limit that some examples exceed, so that the hinge acts.
_ACTING = {"confidence_limit": 0.2}
MODES: dict[str, dict[str, Any]] = {
    "one_hot": {},
    "one_hot, chunked": {"impl": "chunked"},
    "label_smoothing": {"smoothing": 0.3},
    "label_smoothing, chunked": {"smoothing": 0.3, "impl": "chunked"},
    "label_embedding": _ACTING,
    "label_embedding, published": _ACTING | {"preset": "published_code"},
    "label_embedding, mixture": _ACTING | {"preset": "mixture"},
    "label_embedding, compressed": _ACTING | {"embedding": "compressed", "rank": 3},
    "label_embedding, shared": {"auxiliary": "shared", "initial_scale": "log"},
    "label_embedding, fixed": {"embedding": "SAVED"},
    "label_embedding, warmup": _ACTING | {"target_warmup": 0.5},
    "label_embedding, chunked": _ACTING | {"impl": "chunked"},
    "label_embedding, chunked sum": _ACTING | {"preset": "published_code", "uniform_weight": 0.2, "impl": "chunked"},
    "label_embedding, chunked compressed": _ACTING | {"embedding": "compressed", "rank": 3, "impl": "chunked"},
    "label_embedding, chunked shared": {"auxiliary": "shared", "impl": "chunked"},
    "label_embedding, chunked warmup": _ACTING | {"target_warmup": 0.5, "impl": "chunked"},
    "confidence_penalty": {"penalty_weight": 0.7},
    "teacher_free": {"teacher_weight": 0.5},
    "distillation": {"temperature": 2.0},
    "static_labels": {"delta": 0.5},
    "adaptive_labels": {},
    "adaptive_labels, repel": {"label_dimension": 12, "repel_weight": 3.0},
    "adaptive_labels, paper": {"preset": "paper", "update_every": 2, "warmup_steps": 1},
    "adaptive_labels, last": {"prediction": "last", "update_every": 2},
    "online_label_smoothing": {"momentum": 0.8},
    "online_label_smoothing, published": {"preset": "published"},
    "retrospection": {},
    "retrospection, steps": {"store": "steps"},
    "retrospection, progressive": {"preset": "progressive"},
}
assert {objective_of(mode) for mode in MODES} == set(OBJECTIVES), "each objective needs a mode above"
# The same computations with other numbers, for those who compare numbers.
MORE_MODES: dict[str, dict[str, Any]] = {
    "label_smoothing, all": {"smoothing": 1.0},
    "label_embedding, summed": _ACTING | {"preset": "published_code", "temperature": 0.7},
    "label_embedding, shared mixture": {"auxiliary": "shared", "preset": "mixture"},
    "label_embedding, shared compressed": {"auxiliary": "shared", "embedding": "compressed", "rank": 3},
    "label_embedding, fixed uniform": {"embedding": "SAVED", "uniform_weight": 0.3},
    "label_embedding, chunked fixed": {"embedding": "SAVED", "impl": "chunked"},
    "teacher_free, sure": {"true_probability": 1.0, "teacher_weight": 0.4},
    "teacher_free, sharp": {"temperature": 0.5, "true_probability": 0.7, "teacher_weight": 1.0},
    "distillation, mixture": {"temperature": 1.0, "teacher_weight": 0.7, "uniform_weight": 0.15},
    "distillation, alone": {"temperature": 7.0, "teacher_weight": 1.0},
    "static_labels, narrow": {"delta": 0.3, "normalize": False},
    "adaptive_labels, narrow": {"label_dimension": 2, "repel_weight": 0.7},
    "adaptive_labels, algorithm 1": {"preset": "paper", "repel_weight": 3.0},
    "online_label_smoothing, soft": {"similarity_weight": 0.6, "uniform_weight": 0.4},
    "retrospection, port": {"preset": "published_port"},
}


def teacher_logits(num_labels: int) -> Tensor:
    """Returns made logits [EXAMPLES, C] of a teacher."""
    return 3 * torch.randn(EXAMPLES, num_labels, generator=generator(0, "teacher"))


def label_vectors(num_labels: int) -> LabelGeometry:
    """Returns made vectors [C, C + 2] of labels `0`, `1`, ..., of different lengths."""
    table = torch.randn(num_labels, num_labels + 2, generator=generator(0, "vectors"))
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
    name, given = objective_of(mode), (MODES | MORE_MODES)[mode]
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
