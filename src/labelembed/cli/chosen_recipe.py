"""The recipe a verb works with: as it was typed, with what there is to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from labelembed.cli.launched import process_number

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe


def chosen_recipe(
    recipe: str, *, settings: Sequence[str] | None, data: str | None, objective: str | None = None
) -> tuple[Recipe, str]:
    """Returns a checked recipe and its name; what the settings dropped is printed to standard error.

    Args:
        recipe: A recipe that ships, or a YAML file.
        settings: Those of `--set`.
        data: That of `--data`.
        objective: That of `--objective`.
    """
    from labelembed.recipes.loading import load_recipe

    return load_recipe(recipe, settings=settings or [], data=data, objective=objective, say=_say)


def _say(line: str) -> None:
    if process_number() == 0:
        typer.echo(line, err=True)
