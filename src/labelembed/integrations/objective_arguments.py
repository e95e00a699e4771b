"""The arguments of an objective, checked as a recipe's are, with the messages of a constructor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from labelembed.errors import unknown_name
from labelembed.geometry import LabelGeometry
from labelembed.lab.recipes.components import POINTED_TO, SUPPLIED, keys_of, resolve
from labelembed.objectives import OBJECTIVES


def checked_arguments(name: str, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns an objective's keyword arguments as their types have them, only those that were given.

    Args:
        name: Of the objective, a key of `OBJECTIVES`.
        arguments: Its hyper-parameters; geometries, and whatever else no recipe can hold, are left as they are.

    Raises:
        ValueError: There is no such objective, or an argument is unknown or of another type; one line for each.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"`objective`: {unknown_name('objective', name, OBJECTIVES)}")
    # A grid of NumPy's numbers is one of plain numbers.
    given = {key: value.item() if isinstance(value, np.generic) else value for key, value in (arguments or {}).items()}
    supplied = {key: given.pop(key) for key in SUPPLIED & given.keys()}
    supplied |= {key: given.pop(key) for key in (*POINTED_TO, *POINTED_TO.values()) if key in given}
    supplied |= {key: given.pop(key) for key, value in list(given.items()) if isinstance(value, LabelGeometry)}
    # An argument left at None stands for the objective's default, whatever its type is.
    keys = keys_of(OBJECTIVES[name])
    given = {key: value for key, value in given.items() if value is not None or key not in keys}
    resolved, errors = resolve("objective", OBJECTIVES, {"name": name, **given})
    left = {key for key in errors if _is_missing(key.removeprefix("objective."), given, supplied)}
    if errors.keys() - left:
        lines = [f"`{key.removeprefix('objective.')}` {text}" for key, text in errors.items() if key not in left]
        raise ValueError("\n".join(lines))
    return {key: resolved[key] for key in given} | supplied


def _is_missing(key: str, given: Mapping[str, Any], supplied: Mapping[str, Any]) -> bool:
    """Tells whether an error is that of a key missing which was set aside, or which the caller must see to."""
    return key not in given and (key in supplied or key in POINTED_TO.values())
