"""How a recipe differs from that of a run folder."""

from __future__ import annotations

from typing import Any

from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.loading import with_whole_paths
from labelembed.lab.recipes.schema import Recipe
from labelembed.lab.runs.build import stored_recipe
from labelembed.lab.training.run_folder import RunFolder

#: Keys with the value in a run folder and the one asked for.
Differences = dict[str, tuple[Any, Any]]
# What a run can go on with; with another value of any other key it would be neither the old run nor the new one.
_MAY_CHANGE = ("epochs", "optimizer.learning_rate", "schedule", "selection.patience", "checkpoints")
_WAY_OUT = f"choose another --out, or change it by labelembed resume --set ({', '.join(_MAY_CHANGE)})"


def differences(recipe: Recipe, folder: RunFolder) -> Differences:
    """Returns in which keys a recipe differs from that of a run folder."""
    asked, here = _flat(with_whole_paths(recipe).of_one_run()), _flat(stored_recipe(folder).of_one_run())
    keys = sorted(asked.keys() | here.keys())
    return {key: (here.get(key), asked.get(key)) for key in keys if asked.get(key) != here.get(key)}


def check_same_recipe(
    recipe: Recipe, folder: RunFolder, *, may_change: bool = False, way_out: str = _WAY_OUT
) -> Differences:
    """Raises RunFolderError, with the differences, when a folder holds the run of another recipe.

    With `may_change` those with which a run can go on are allowed, and returned.
    """
    differing = differences(recipe, folder)
    if any(not (may_change and key.startswith(_MAY_CHANGE)) for key in differing):
        raise RunFolderError(f"{folder.path}: holds the run of another recipe; {way_out}. {listed(differing)}")
    return differing


def listed(differing: Differences) -> str:
    """Returns differences as the end of a message, one a line."""
    lines = [f"{key}: here {here!r}, asked for {asked!r}" for key, (here, asked) in differing.items()]
    more = [f"and {len(lines) - 6} more"] if len(lines) > 6 else []
    return "\n  ".join(["It differs in", *lines[:6], *more])


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns values by their whole keys, without the path of the data: they may move, and have a fingerprint."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif (prefix, key) != ("data.", "path"):
            flat[f"{prefix}{key}"] = value
    return flat
