"""From a name or a path to a checked recipe, with `--set`, `--data` and `--objective` on the way."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

from labelembed.errors import nearest
from labelembed.lab.errors import RecipeError
from labelembed.lab.pretrained_images import PACKAGED, RANDOM
from labelembed.lab.recipes.components import shown
from labelembed.lab.recipes.references import whole_paths
from labelembed.lab.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.lab.recipes.variants import parse_variant, with_own_arguments
from labelembed.lab.training.files import MAXIMUM_YAML_BYTES, plain_values


def shipped_recipes() -> dict[str, str]:
    """Returns the text of every recipe that comes with the package, by name."""
    paths = {path.name: path for path in files("labelembed.lab.recipes").iterdir() if path.name.endswith(".yaml")}
    return {name.removesuffix(".yaml"): paths[name].read_text(encoding="utf-8") for name in sorted(paths)}


def recipe_heading(text: str) -> list[str]:
    """Returns the comment lines a recipe begins with, without their signs."""
    return [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), text.splitlines())]


def read_recipe(name_or_path: str) -> tuple[dict[str, Any], str, str]:
    """Returns a recipe's YAML values, its name and its source for messages; raises RecipeError."""
    shipped, path = shipped_recipes(), Path(name_or_path)
    is_shipped = name_or_path in shipped
    name, source = (name_or_path, f"recipe {name_or_path!r}") if is_shipped else (path.stem, name_or_path)
    if not is_shipped and not path.is_file() and path.suffix not in (".yaml", ".yml"):
        hint = nearest(name_or_path, shipped) + "; see `labelembed list`, or give a .yaml file"
        raise RecipeError([f"unknown recipe {name_or_path!r}{hint}"], source="")
    try:
        if not is_shipped and path.stat().st_size > MAXIMUM_YAML_BYTES:
            raise ValueError(f"larger than {MAXIMUM_YAML_BYTES:,} bytes, which no recipe is")
        values = plain_values(shipped[name] if is_shipped else path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        others = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        reason = f"no such file{nearest(path.name, others)}" if not path.exists() else f"cannot be read ({error})"
        raise RecipeError([reason], source=source) from error
    except ValueError as error:
        raise RecipeError([str(error)], source=source) from error
    if not isinstance(values, dict):
        parse_recipe(values, source=source)  # says what it should be
    return values, name, source


def load_recipe(
    name_or_path: str, *, settings: Sequence[str] = (), data: str | None = None, objective: str | None = None
) -> tuple[Recipe, str]:
    """Returns a checked recipe that ships, or of a YAML file, and its name; raises RecipeError with every error.

    Args:
        name_or_path: The recipe's name, or the file's path.
        settings: `key.key=value`, the values read as YAML.
        data: Path of the data, for `data.path`.
        objective: Replaces the recipe's objective; see `parse_variant`.
    """
    values, name, source = read_recipe(name_or_path)
    typed = {} if objective is None else parse_variant(objective, source="--objective")
    if typed:
        values["objective"] = with_own_arguments(typed, values.get("objective"))
    errors = put_settings(values, settings)
    if data is not None and not data.strip():
        errors.append("--data: is empty; name the place of the data")
    elif data is not None and isinstance(values.get("data"), str | dict | None):  # else it is refused with the recipe
        _inner(values, ["data"])["path"] = data
    recipe = parse_recipe(values, source=f"{source} with --set" if settings else source, found=errors)
    # What the recipe itself points to may lie beside it; a path that was typed does not.
    beside = None if {"embedding", "teacher"} & typed.keys() else Path(name_or_path).parent
    return with_whole_paths(recipe, beside), name


def put_settings(values: dict[str, Any], settings: Sequence[str]) -> list[str]:
    """Puts every `a.b=value` into a recipe's values; returns the errors.

    Another `objective.name` or `model.name` drops the arguments of the old one; names come first, whatever their order.
    """
    errors = []
    for setting in sorted(settings, key=lambda setting: ".name=" not in setting):
        path, sign, text = setting.partition("=")
        *parents, key = path.strip().split(".")
        try:
            if not sign or not all((*parents, key)):
                raise ValueError("must be key.key=value, for instance optimizer.learning_rate=0.01")
            value, block = plain_values(text), _inner(values, parents)
        except ValueError as error:
            errors.append(f"{shown(setting)}: {error}")
            continue
        if key == "name" and parents in (["objective"], ["model"]) and block.get("name") not in (None, value):
            block.clear()
        block[key] = value
    return errors


def _inner(values: dict[str, Any], parents: Sequence[str]) -> dict[str, Any]:
    """Returns the block below some keys of a recipe, which is put there where it is missing."""
    for number, parent in enumerate(parents):
        inner = {} if values.get(parent) is None else values[parent]
        if isinstance(inner, str) and number == 0 and parent in TABLES:  # objective: one_hot
            inner = {"name": inner}
        if not isinstance(inner, dict):
            raise ValueError(f"{parent!r} is {shown(inner)}, which has no keys below it")
        values[parent] = values = inner
    return values


def with_whole_paths(recipe: Recipe, beside: Path | None = None) -> Recipe:
    """Returns a recipe with its paths made whole, so that it works from anywhere; see `whole_paths` for `beside`."""
    blocks = {"data": recipe.data, "model": recipe.model, "objective": recipe.objective | whole_paths(recipe, beside)}
    for block, key in (("data", "path"), ("data", "encoder"), ("data", "weights"), ("model", "weights")):
        if blocks[block].get(key) not in (None, PACKAGED, RANDOM):
            blocks[block] = blocks[block] | {key: str(Path(blocks[block][key]).expanduser().absolute())}
    return recipe.model_copy(update=blocks)
