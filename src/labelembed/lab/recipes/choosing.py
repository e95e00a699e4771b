"""The recipe to work with: the one that is named, or the one that fits the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labelembed.lab.data import detect
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe, put_settings
from labelembed.lab.recipes.schema import Recipe


def choose_recipe(
    recipe: str | None,
    *,
    settings: Sequence[str] = (),
    data: str | None = None,
    objective: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Recipe, str]:
    """Returns a checked recipe and its name; raises RecipeError with all errors, DataError where no recipe fits.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits the data.
        settings: Those of `--set`.
        data: Where the data are; None: as the settings say.
        objective: Replaces the recipe's objective.
        say: Called with a description of the data, where no recipe was named.
    """
    if recipe is None:
        typed: dict[str, Any] = {}
        put_settings(typed, settings)  # errors are reported with the recipe
        given = typed["data"] if isinstance(typed.get("data"), dict) else {"name": typed.get("data")}
        path = given.get("path") if data is None else data
        if not isinstance(path, str) or not path.strip():
            raise RecipeError(["missing; name one, or give --data PATH and the fitting one is taken"], source="RECIPE")
        detected = detect(path, given)
        say(f"{detected.description}; recipe {detected.recipe}{detected.hint}")
        recipe = detected.recipe
    return load_recipe(recipe, settings=settings, data=data, objective=objective)


def folder_name(recipe: Recipe, name: str) -> str:
    """Returns the name of a default folder, made of the data and the recipe: ``reviews-text-bag``."""
    if "path" not in recipe.data:
        return name
    path = Path(recipe.data["path"]).expanduser()
    path = path if path.name.strip(".") else path.resolve()
    data = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    return name if f"{name}-".startswith(f"{data}-") else f"{data[:80]}-{name}"
