"""Trying a component's arguments without data, so that a recipe's bad values show before anything is read."""

from __future__ import annotations

from typing import Any

import torch

from labelembed.models import MODELS
from labelembed.objectives import OBJECTIVES
from labelembed.recipes.signature import construction_faults
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


def value_faults(kind: str, block: dict[str, Any]) -> list[str]:
    """Returns what the component of a block says about its arguments.

    A saved geometry is not read here: the objective is tried with a learned embedding in its place.

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
            # What a learned embedding is asked is all that there is to ask, but for the files.
            arguments |= {"embedding": "full"} if "embedding" in arguments else {}
            return construction_faults(kind, OBJECTIVES[name], hidden_size=2, num_labels=2, **arguments)
        if kind == "model":
            with torch.device("meta"):  # which takes no memory, however large the network
                return construction_faults(kind, MODELS[name], input_shape=(1, 32, 32), **arguments)
    return []
