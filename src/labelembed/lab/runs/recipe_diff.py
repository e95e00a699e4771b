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
_WAY_OUT = f"train in another folder, start over with --overwrite, or change by resume --set {', '.join(_MAY_CHANGE)}"


def check_same_recipe(
    recipe: Recipe, folder: RunFolder, *, may_change: bool = False, way_out: str = _WAY_OUT
) -> Differences:
    """Raises RunFolderError, with the differences, when a folder holds the run of another recipe.

    With `may_change` those with which a run can go on are allowed, and returned.
    """
    asked, here = _flat(with_whole_paths(recipe).of_one_run()), _flat(stored_recipe(folder).of_one_run())
    keys = [key for key in sorted(asked.keys() | here.keys()) if asked.get(key) != here.get(key)]
    if any(not (may_change and key.startswith(_MAY_CHANGE)) for key in keys):
        heading = f"{folder.path}: holds the run of another recipe; {way_out}. It differs in"
        lines = [f"{key}: here {here.get(key)!r}, asked for {asked.get(key)!r}" for key in keys[:6]]
        more = [f"and {len(keys) - 6} more"] if len(keys) > 6 else []
        raise RunFolderError("\n  ".join([heading, *lines, *more]))
    return {key: (here.get(key), asked.get(key)) for key in keys}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns values by their whole keys, without the path of the data: they may move, and have a fingerprint."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif (prefix, key) != ("data.", "path"):
            flat[f"{prefix}{key}"] = value
    return flat
