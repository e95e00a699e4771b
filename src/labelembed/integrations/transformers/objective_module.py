"""The objective of a wrapped model: built, described in JSON, built again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from labelembed import seeds
from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import build_objective
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.objectives import AdaptiveLabels, Distillation, Objective, OnlineLabelSmoothing, Retrospection

# What a configuration says in the place of a label geometry.
GEOMETRY = "label_geometry"


def as_json(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns an objective's arguments as a configuration holds them.

    A label geometry becomes its kind and shape, for its numbers are among the weights; a teacher's logits are left out,
    for only training needs them.
    """
    found = {}
    for name, value in (arguments or {}).items():
        if isinstance(value, LabelGeometry):
            kind = "vectors" if value.similarities is None else "similarities"
            table = getattr(value, kind)
            found[name] = {GEOMETRY: kind, "shape": list(table.shape)}
        elif name != "teacher_logits":
            found[name] = value
    return found


def from_json(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `as_json` was given, with made numbers where a geometry was, which the weights will replace."""
    found = dict(arguments)
    for key, value in arguments.items():
        if isinstance(value, dict) and GEOMETRY in value:
            rows, width = value["shape"]
            made: dict[str, Any] = {value[GEOMETRY]: torch.randn(rows, width, generator=seeds.generator(0, "made"))}
            found[key] = LabelGeometry(tuple(str(number) for number in range(rows)), **made)
    if name == "distillation":
        found["teacher_logits"] = None
    return found


def objective_of(config: ObjectiveConfig, *, hidden_size: int, num_labels: int) -> Objective:
    """Returns the objective that a configuration describes, on the CPU even where the model is being sketched."""
    # transformers builds a model without memory first ("meta"); the checks of an objective look at its numbers.
    with torch.device("cpu"):
        arguments = from_json(config.objective, config.objective_arguments)
        return build_objective(config.objective, arguments, hidden_size=hidden_size, num_labels=num_labels)


def needs_epochs(objective: Objective) -> bool:
    """Tells whether an objective learns nothing of its own, or something else, unless it is told of epochs."""
    if isinstance(objective, AdaptiveLabels):
        return objective.update == "epoch"
    return isinstance(objective, Retrospection) or (
        isinstance(objective, OnlineLabelSmoothing) and objective.gathering is not None
    )


def require_epochs(objective: Objective, told: bool) -> None:
    """Raises ValueError where an objective is trained that must be told of epochs, and nobody has."""
    if not told and needs_epochs(objective):
        raise ValueError(
            f"{type(objective).__name__} must be told of epochs: give Trainer callbacks=[ObjectiveCallback()], or in "
            "your own loop call objective.start_epoch and end_epoch and set model.told_of_epochs = True"
        )


def refuse_other_weights(missing: Any, unexpected: Any, folder: object) -> None:
    """Raises ValueError where saved weights lack those of the objective, or have an output bias that it has not."""
    if "objective.output.bias" in unexpected:
        # AdaptiveLabels had one where nothing was said of it.
        raise ValueError(
            f"{folder}: has an output bias, which the objective in its config.json has not; to load it, write "
            '"bias": true into the "objective_arguments" there'
        )
    lacking = sorted(name for name in missing if name.startswith("objective.") and name != "objective.teacher_logits")
    if lacking:
        raise ValueError(f"{folder}: has no weights of the objective ({', '.join(lacking[:4])}); was it saved by one?")


def settle(objective: Objective) -> None:
    """Has an objective take in weights that were put into it one by one, its counters among them."""
    objective.load_state_dict(objective.state_dict())


def is_remembering(objective: Objective) -> bool:
    """Tells whether an objective remembers each training example."""
    return isinstance(objective, (Retrospection, Distillation))
