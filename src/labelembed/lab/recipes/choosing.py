"""The recipe to work with: the one that is named, or the one that fits the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.loading import load_recipe
from labelembed.lab.recipes.schema import Recipe


def choose_recipe(
    recipe: str | None,
    *,
    settings: Sequence[str] = (),
    data: str | None = None,
    objective: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Recipe, str]:
    """Returns a checked recipe and its name.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits the data.
        settings: Those of `--set`.
        data: Where the data are; None: as the settings say.
        objective: A variant that takes the place of the recipe's objective.
        say: Called with what was found at `data`, where no recipe was named, and with what the settings dropped.

    Raises:
        RecipeError: There is neither a recipe nor a path, or with every error of the recipe.
        DataError: No recipe fits the data.
    """
    if recipe is None:
        from labelembed.lab.recipes.fitting import fitting_recipe, path_in

        path = path_in(settings) if data is None else data
        if path is None:
            missing = "missing; name a recipe, or give --data PATH and the recipe that fits is taken"
            raise RecipeError([missing], source="RECIPE")
        fitting = fitting_recipe(path, settings)
        say(fitting.line)
        recipe, settings = fitting.recipe, [*fitting.settings, *settings]
    return load_recipe(recipe, settings=settings, data=data, objective=objective, say=say)


def folder_name(recipe: Recipe, name: str) -> str:
    """Returns what default folders are called, ``reviews-text-bag``: by the data and the recipe.

    Args:
        recipe: A checked recipe.
        name: Of the recipe; one that begins with the name of the data stays as it is.
    """
    if "path" not in recipe.data:
        return name
    path = Path(recipe.data["path"]).expanduser()
    path = path if path.name.strip(".") else path.resolve()
    data = path.name if path.is_dir() else Path(path.name.removesuffix(".gz")).stem
    return name if f"{name}-".startswith(f"{data}-") else f"{data[:80]}-{name}"
