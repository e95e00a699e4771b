"""Trying a component's arguments without data, so that a recipe's bad values show before anything is read."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from labelembed.models import MODELS
from labelembed.objectives import OBJECTIVES
from labelembed.recipes.signature import construction_faults
from labelembed.training.network import Network
from labelembed.training.optimizers import OPTIMIZERS
from labelembed.training.schedules import SCHEDULES


def value_faults(kind: str, block: dict[str, Any]) -> list[str]:
    """Returns what the component of a block says about its arguments.

    A saved geometry is not read here: the objective is tried with a learned embedding in its place.

    Args:
        kind: `model`, `objective`, `optimizer` or `schedule`; other blocks are content.
        block: With every default filled in, its types right.
    """
    arguments = {key: value for key, value in block.items() if key != "name"}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        if kind == "model":
            return construction_faults(kind, MODELS[block["name"]], input_shape=(1, 32, 32), **arguments)
        if kind == "objective":
            if arguments.get("embedding") not in ("full", "compressed", None):
                arguments["embedding"] = "full"
            objective = OBJECTIVES[block["name"]]
            return construction_faults(kind, objective, hidden_size=2, num_labels=2, **arguments)
        if kind == "optimizer":
            tiny = Network(nn.Identity(), nn.Linear(2, 2), OBJECTIVES["one_hot"](2, 2))
            return construction_faults(kind, OPTIMIZERS[block["name"]], network=tiny, **arguments)
        if kind == "schedule":
            return construction_faults(kind, SCHEDULES[block["name"]], **arguments)
    return []
