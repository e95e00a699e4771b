"""The recipe a verb works with: the one that was typed, or the one that fits the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from labelembed.cli.launched import process_number

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe


def chosen_recipe(
    recipe: str | None, *, settings: Sequence[str] | None, data: str | None, objective: str | None = None
) -> tuple[Recipe, str]:
    """Returns a checked recipe and its name.

    What was found at `data`, where no recipe was typed, and what the settings dropped are printed to standard error.

    Args:
        recipe: A recipe that ships, or a YAML file; None: the one that fits the data.
        settings: Those of `--set`.
        data: That of `--data`.
        objective: That of `--objective`.

    Raises:
        LabelEmbedError: There is neither a recipe nor a path.
        DataError: No recipe fits the data.
    """
    from labelembed.errors import LabelEmbedError
    from labelembed.recipes.choosing import choose_recipe
    from labelembed.recipes.fitting import path_in

    settings = list(settings or [])
    if recipe is None and data is None and path_in(settings) is None:
        raise LabelEmbedError("RECIPE: missing; name a recipe, or give --data PATH and the recipe that fits is taken")
    return choose_recipe(recipe, settings=settings, data=data, objective=objective, say=_say)


def _say(line: str) -> None:
    if process_number() == 0:
        typer.echo(line, err=True)
