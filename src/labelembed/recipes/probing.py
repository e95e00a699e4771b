"""Trying a component's arguments without data, so that a recipe's bad values show before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry
from labelembed.models import MODELS, SEQUENCE_MODELS
from labelembed.objectives import OBJECTIVES
from labelembed.recipes.signature import POINTED_TO, construction_faults, keys_of, takes
from labelembed.training.network import mixing_refusal
from labelembed.training.optimizers import OPTIMIZERS
from labelembed.training.schedules import SCHEDULES


class _ArgumentsHold(Exception):  # noqa: N818 - the opposite of an error
    pass


class _NoNetwork:
    """Stands for the network of an optimiser, which asks for it once its other arguments are checked.

    So no optimiser is built, for which torch would import its compiler: longer than all the rest.
    """

    def __getattr__(self, name: str) -> Any:
        raise _ArgumentsHold


def _without_files(block: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments of an objective for a few labels, with made things in the place of files.

    What a recipe points to is checked when it is read.
    """
    labels = len(block.get("weight") or (0, 1))
    keys = keys_of(OBJECTIVES[block["name"]])
    arguments = {key: value for key, value in block.items() if key not in ("name", *POINTED_TO.values())}
    arguments |= {name: None for name, key in POINTED_TO.items() if key in keys}
    if "embedding" in keys and (keys["embedding"].required or block.get("embedding") not in ("full", "compressed")):
        made = LabelGeometry(tuple(map(str, range(labels))), vectors=torch.eye(labels))
        arguments["embedding"] = made if keys["embedding"].required else "full"
    return arguments | {"hidden_size": 2, "num_labels": labels}


def value_faults(kind: str, block: dict[str, Any]) -> list[str]:
    """Returns what the component of a block says about its arguments.

    No file is read here: the objective is tried with something made in the place of what a recipe points to.

    Args:
        kind: `model`, `objective`, `optimizer` or `schedule`; other blocks are content.
        block: With every default filled in, its types right.
    """
    arguments = {key: value for key, value in block.items() if key != "name"}
    name = block["name"]
    if kind == "optimizer":
        try:
            return construction_faults(kind, OPTIMIZERS[name], network=_NoNetwork(), **arguments)
        except _ArgumentsHold:
            return []
    if kind == "schedule":
        return construction_faults(kind, SCHEDULES[name], **arguments)
    with torch.random.fork_rng(devices=[]):
        if kind == "objective":
            return construction_faults(kind, OBJECTIVES[name], **_without_files(block))
        if kind == "model":
            check = getattr((MODELS | SEQUENCE_MODELS)[name], "check_arguments", None)
            if check is not None:
                return _checked_only(kind, check, arguments)
            with torch.device("meta"):  # which takes no memory, however large the network
                if name in SEQUENCE_MODELS:
                    sizes = {"source_vocabulary_size": 8, "target_vocabulary_size": 8}
                    return construction_faults(kind, SEQUENCE_MODELS[name], **sizes, **arguments)
                if takes(MODELS[name], "vocabulary_size"):
                    arguments |= {"vocabulary_size": 8}
                return construction_faults(kind, MODELS[name], input_shape=(1, 32, 32), **arguments)
    return []


def _checked_only(kind: str, check: Callable[..., None], arguments: dict[str, Any]) -> list[str]:
    """Returns what a network that is not built here says of its arguments; nothing where its package is missing."""
    try:
        return construction_faults(kind, check, input_shape=(3, 32, 32), **arguments)
    except DataError:
        return []


def mixing_faults(block: dict[str, Any]) -> list[str]:
    """Returns why the objective of a valid block cannot learn from mixed examples; nothing if it can."""
    with torch.random.fork_rng(devices=[]):
        objective = OBJECTIVES[block["name"]](**_without_files(block))
    reason = mixing_refusal(objective)
    return [] if reason is None else [f"data.mixing: must be 'none' with the objective {block['name']!r}: {reason}"]
