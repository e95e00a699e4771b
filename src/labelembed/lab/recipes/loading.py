"""From a name or a path to a checked recipe, with `--set` and variants on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from labelembed.errors import nearest
from labelembed.lab.errors import RecipeError
from labelembed.lab.pretrained_images import PACKAGED, RANDOM
from labelembed.lab.recipes.references import whole_paths
from labelembed.lab.recipes.schema import TABLES, Recipe, kind_of, parse_recipe
from labelembed.lab.recipes.wording import shown
from labelembed.lab.training.plain_yaml import MAXIMUM_BYTES, plain_values
from labelembed.objectives import OBJECTIVES


def shipped_recipes() -> dict[str, str]:
    """Returns the text of every recipe that comes with the package, by name."""
    folder = files("labelembed.lab.recipes")
    return {
        entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".yaml")
    }


def recipe_heading(text: str) -> list[str]:
    """Returns the comment lines a recipe begins with, without their signs."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return lines


def read_recipe(name_or_path: str) -> tuple[dict[str, Any], str, str]:
    """Returns a recipe's values as its YAML holds them, its name, and where it came from.

    Raises:
        RecipeError: When there is none, or it is no YAML mapping.
    """
    shipped = shipped_recipes()
    if name_or_path in shipped:
        return _parsed(shipped[name_or_path], name_or_path), name_or_path, f"recipe {name_or_path!r}"
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix not in (".yaml", ".yml"):
            what = f"unknown recipe {name_or_path!r}{nearest(name_or_path, sorted(shipped))}"
            raise RecipeError([f"{what}; `labelembed recipes` lists what there is; or give a .yaml file"], source="")
        others = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        missing = "is a folder; name a file" if path.is_dir() else f"no such file{nearest(path.name, others)}"
        raise RecipeError([missing], source=str(path))
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise RecipeError([f"larger than {MAXIMUM_BYTES:,} bytes, which no recipe is"], source=str(path))
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"cannot be read ({error})"], source=str(path)) from error
    return _parsed(text, str(path)), path.stem, str(path)


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        values = plain_values(text)
    except ValueError as error:
        raise RecipeError([str(error)], source=source) from error
    if not isinstance(values, dict):
        wanted = "a mapping with data, model, objective, ..."
        raise RecipeError([f"must be {wanted}; got {kind_of(values)}; `labelembed init` writes one"], source=source)
    return values


def load_recipe(
    name_or_path: str,
    *,
    settings: Sequence[str] = (),
    data: str | None = None,
    objective: str | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Recipe, str]:
    """Returns a checked recipe and its name.

    Args:
        name_or_path: Of a recipe that ships, or a YAML file.
        settings: `key.key=value`, the values read as YAML.
        data: Path of the data, for `data.path`.
        objective: A variant that takes the place of the recipe's objective, see `parse_variant` and
            `with_own_arguments`.
        say: Called with a line where `--set objective.name=...` drops the arguments of the recipe's own objective.

    Raises:
        RecipeError: With every error found.
    """
    values, name, source = read_recipe(name_or_path)
    variant: dict[str, Any] = {}
    if objective is not None:
        variant = parse_variant(objective, source="--objective")
        values["objective"] = with_own_arguments(variant, values.get("objective"))
    if settings:
        source += " with --set"
    notes: list[str] = []
    errors = put_settings(values, settings, say=notes.append)
    if data is not None:
        errors += _put_data(values, data)
    try:
        recipe = parse_recipe(values, source=source)
    except RecipeError as error:
        raise RecipeError(errors + error.errors, source=source) from None
    if errors:
        raise RecipeError(errors, source=source)
    if say is not None:
        for note in notes:
            say(note)
    # What the recipe itself points to may lie beside it; a path that was typed does not.
    beside = None if {"embedding", "teacher"} & variant.keys() else Path(name_or_path).parent
    return with_whole_paths(recipe, beside), name


def _put_data(values: dict[str, Any], path: str) -> list[str]:
    """Puts `--data` into the values; returns what is wrong with it, if anything."""
    if not path.strip():
        return ["--data: is empty; name the place of the data"]
    block = values.get("data")
    block = {"name": block} if isinstance(block, str) else {} if block is None else block
    if isinstance(block, dict):  # anything else is refused with the recipe
        values["data"] = block | {"path": path}
    return []


def put_settings(
    values: dict[str, Any], settings: Sequence[str], *, say: Callable[[str], None] | None = None
) -> list[str]:
    """Puts every `a.b=value` into a recipe's values; returns what is wrong with them.

    Where `objective.name` names another objective, the arguments of the old one are dropped first. The order of the
    settings does not matter for that: arguments that are set for the new objective stay.

    Args:
        values: Of the recipe; they are changed.
        settings: As they were typed.
        say: Called with a line that names what was dropped.
    """
    for setting in settings:
        key, _, name = (part.strip() for part in setting.partition("="))
        own = values.get("objective")
        if key != "objective.name" or name not in OBJECTIVES or not isinstance(own, dict):
            continue
        dropped = [str(argument) for argument in own if argument != "name"]
        if own.get("name") not in (None, name) and dropped:
            values["objective"] = {"name": name}
            if say is not None:
                say(f"{setting.strip()}: dropped {', '.join(dropped)} of {own['name']}")
    return [error for setting in settings if (error := put_setting(values, setting))]


def put_setting(values: dict[str, Any], setting: str) -> str | None:
    """Puts one `a.b=value` into a recipe's values; returns what is wrong with it, if anything."""
    path, sign, text = setting.partition("=")
    keys = path.strip().split(".")
    if not sign or not all(keys):
        return f"{shown(setting)}: must be key.key=value, for instance optimizer.learning_rate=0.01"
    try:
        value = plain_values(text)
    except ValueError as error:
        return f"{path.strip()}: {shown(text)} cannot be read: {error}"
    for parent in keys[:-1]:
        inner = values.get(parent)
        if isinstance(inner, str) and parent in TABLES:  # objective: one_hot
            inner = {"name": inner}
        elif inner is not None and not isinstance(inner, dict):
            return f"{path.strip()}: {parent!r} has no keys below it"
        values[parent] = values = inner or {}
    values[keys[-1]] = value
    return None


def with_whole_paths(recipe: Recipe, beside: Path | None = None) -> Recipe:
    """Returns a recipe with its paths made whole, so that it works from anywhere.

    Args:
        recipe: A checked recipe.
        beside: The recipe's own folder: a saved geometry may lie beside it, as it does in a run folder.
    """
    blocks = {"data": recipe.data, "model": recipe.model, "objective": recipe.objective | whole_paths(recipe, beside)}
    for block, key in (("data", "path"), ("data", "encoder"), ("data", "weights"), ("model", "weights")):
        if blocks[block].get(key) not in (None, PACKAGED, RANDOM):
            blocks[block] = blocks[block] | {key: str(Path(blocks[block][key]).expanduser().absolute())}
    return recipe.model_copy(update=blocks)


def parse_variant(text: str | dict[str, Any], *, source: str) -> dict[str, Any]:
    """Returns an objective's block from ``name:key=value:key=value``, values read as YAML.

    Args:
        text: The variant, or the block itself.
        source: The option or key it comes from, for messages.

    Raises:
        RecipeError: When it is not of that form.
    """
    if isinstance(text, dict):
        return dict(text)
    # A colon that does not begin `key=` belongs to a value, as in a path.
    name, *pairs = re.split(r":(?=\s*\w+\s*=)", text.strip())
    if ":" in name or "=" in name or not name.strip():
        wanted = "name or name:key=value:key=value, for instance label_smoothing:smoothing=0.2"
        raise RecipeError([f"{shown(text)} must be {wanted}"], source=source)
    block: dict[str, Any] = {"name": name.strip()}
    for pair in pairs:
        key, _, value = pair.partition("=")
        if key.strip() in block:
            raise RecipeError([f"{shown(text)} gives {key.strip()!r} more than once"], source=source)
        try:
            block[key.strip()] = plain_values(value)
        except ValueError as error:
            raise RecipeError(
                [f"{name.strip()}: {key.strip()}: {shown(value)} cannot be read: {error}"], source=source
            ) from error
    return block


def with_own_arguments(block: dict[str, Any], own: Any) -> dict[str, Any]:
    """Returns a variant's block with what the recipe says of the same objective, where the variant does not say it.

    A recipe over 50,000 words says that its label embedding is compressed; one that is named beside one-hot, or with
    another temperature, is so too. A variant that names a preset takes from it all that presets decide.

    Args:
        block: The variant, as `parse_variant` reads it.
        own: The recipe's own objective: a block, or a name.
    """
    if isinstance(own, dict) and own.get("name") == block.get("name"):
        presets = getattr(OBJECTIVES.get(block["name"]), "presets", {}) if "preset" in block else {}
        decided = {argument for preset in presets.values() for argument in preset}
        return {key: value for key, value in own.items() if key not in decided} | block
    return block


def split_variants(text: str) -> list[str]:
    """Returns the variants of a comma-separated list; commas inside brackets belong to a value."""
    parts = re.split(r",(?![^\[]*\])", text)
    return [part.strip() for part in parts if part.strip()]


def variant_name(block: dict[str, Any], *, whole_paths: bool = False) -> str:
    """Returns a variant as people read it: ``label_embedding preset=paper temperature=3``.

    Args:
        block: The objective's block.
        whole_paths: Show a path whole; otherwise the file's name stands for it.
    """
    parts = [str(block["name"])]
    for key, value in block.items():
        if key != "name":
            is_path = isinstance(value, str) and "/" in value and not whole_paths
            parts.append(f"{key}={Path(value).name if is_path else value}")
    return " ".join(parts)


def variant_folder(block: dict[str, Any]) -> str:
    """Returns a variant's folder name: its name with what a file system minds replaced."""
    return re.sub(r"[^\w.=+-]+", "_", variant_name(block).replace(" ", "-"))
