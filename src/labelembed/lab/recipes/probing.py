"""Trying a component's arguments without data, so that a recipe's bad values show before anything is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from labelembed.errors import DataError
from labelembed.geometry import LabelGeometry
from labelembed.lab.recipes.signature import POINTED_TO, argument_errors, keys_of, takes
from labelembed.lab.training.network import mixing_refusal
from labelembed.objectives import OBJECTIVES

# What a network is tried with, of these what it takes.
_SIZES = {
    "input_shape": (3, 32, 32),
    "vocabulary_size": 8,
    "source_vocabulary_size": 8,
    "target_vocabulary_size": 8,
}


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
    if "embedding" in keys and keys["embedding"].is_required():
        arguments["embedding"] = LabelGeometry(tuple(map(str, range(labels))), vectors=torch.eye(labels))
    elif block.get("embedding") not in (None, "full", "compressed"):
        arguments["embedding"] = "full"
    return arguments | {"hidden_size": 2, "num_labels": labels}


def value_errors(kind: str, component: Callable[..., Any], block: dict[str, Any]) -> list[str]:
    """Returns what the component of a block says about its arguments.

    No file is read here: the objective is tried with something made in the place of what a recipe points to.

    Args:
        kind: `model`, `objective`, `optimizer` or `schedule`; `data` are content until they are read.
        component: What the block names.
        block: With every default filled in, its types right.
    """
    if kind == "data":
        return []
    arguments = {key: value for key, value in block.items() if key != "name"}
    if kind == "objective":
        arguments = _without_files(block)
    elif kind == "optimizer":
        arguments["network"] = _NoNetwork()
    elif kind == "model":
        component = getattr(component, "check_arguments", component)
        arguments |= {name: size for name, size in _SIZES.items() if takes(component, name)}
    # on the device `meta` no network takes memory, however large it is
    with torch.random.fork_rng(devices=[]), torch.device("meta") if kind == "model" else nullcontext():
        try:
            component(**arguments)
        except (_ArgumentsHold, DataError):  # the package of a network may be missing
            return []
        except ValueError as error:
            return argument_errors(kind, error)
        except (RuntimeError, TypeError, OverflowError) as error:  # torch, of sizes that no memory could hold
            return [f"{kind}: cannot be built: {str(error).splitlines()[0][:120]}"]
    return []


def mixing_errors(block: dict[str, Any]) -> list[str]:
    """Returns why the objective of a valid block cannot learn from mixed examples; nothing if it can."""
    with torch.random.fork_rng(devices=[]):
        objective = OBJECTIVES[block["name"]](**_without_files(block))
    reason = mixing_refusal(objective)
    return [] if reason is None else [f"data.mixing: must be 'none' with the objective {block['name']!r}: {reason}"]
