"""The objective of a wrapped model: built, described in JSON, built again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from labelembed import seeds, whole_batch
from labelembed.geometry import LabelGeometry
from labelembed.integrations.objective_building import build_objective
from labelembed.integrations.transformers.configuration import ObjectiveConfig
from labelembed.losses import full_precision
from labelembed.objectives import (
    AdaptiveLabels,
    Distillation,
    DistillationTerms,
    Objective,
    OnlineLabelSmoothing,
    Retrospection,
    Terms,
)

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


def terms_of(objective: Objective, hidden: Tensor, labels: Tensor, rows: Tensor | None) -> Terms:
    """Returns an objective's terms; in evaluation mode those of distillation are of the labels alone.

    A teacher's table is of the training rows, and the rows of an evaluation have other places.
    """
    if isinstance(objective, Distillation) and not objective.training:
        counted, known = objective.counted(hidden, labels)
        output = F.cross_entropy(full_precision(objective.output(counted)), known, reduction="sum")
        output = output * whole_batch.mean_factor(known.shape[0], like=output, group=objective.step_group)
        return DistillationTerms(total=output, output=output, teacher=torch.zeros_like(output))
    terms: Terms = objective(hidden, labels, rows)
    return terms


def loss_of(objective: Objective, terms: Terms, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
    """Returns the loss of a micro-batch as Trainer wants it: of a mean over the rows of the whole optimiser step.

    Args:
        objective: Whose terms they are.
        terms: Of the micro-batch, means over its rows that count.
        labels: Its labels, -100 where a row does not count.
        num_items_in_batch: Rows that count in all micro-batches of the step; None: the micro-batch is the step.
    """
    if num_items_in_batch is None:
        return terms.total
    count = (labels != -100).sum()
    if isinstance(num_items_in_batch, Tensor):
        num_items_in_batch = num_items_in_batch.to(terms.total.device).float().mean()
    # The mean's own factor is taken back, so that what is left is this process' sum.
    factor = whole_batch.count_factor(count, like=terms.total, group=objective.step_group)
    return terms.total / (factor * num_items_in_batch)


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
            "your own loop call objective.begin_epoch and end_epoch and set model.told_of_epochs = True"
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
    """Tells whether an objective remembers each training row."""
    return isinstance(objective, (Retrospection, Distillation))
