"""`labelembed init`: a recipe with every key there is, each with a comment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from labelembed.lab.recipes.blocks import ComparisonBlock, DataCommon
from labelembed.lab.recipes.loading import read_recipe, recipe_heading, shipped_recipes
from labelembed.lab.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.lab.recipes.signature import keys_of, model_of
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.settings import Block

_COMMENT_COLUMN = 42


def full_recipe(name: str) -> str:
    """Returns the text of a recipe, with every key, its value and what it means.

    Args:
        name: Of a recipe that ships, or a YAML file.

    Raises:
        RecipeError: When there is none, or it cannot be run.
    """
    values, _, source = read_recipe(name)
    text = shipped_recipes().get(name) or Path(name).read_text(encoding="utf-8")
    heading = [f"# {line}".rstrip() for line in recipe_heading(text)]
    given = values.get("data")
    given = {"name": given} if isinstance(given, str) else given
    if isinstance(given, dict):  # anything else is refused with the recipe
        reader = TABLES["data"].get(str(given.get("name")))
        if reader is not None and "path" in keys_of(reader):
            values["data"] = {"path": "path/to/data", **given}
    recipe = parse_recipe(values, source=source)
    lines = [
        *heading,
        *(["#"] if heading else []),
        "# Every key with its value; `null` leaves the choice to the program.",
    ]
    filled = {
        "decoding": (recipe.decoding or Decoding()) if recipe.of_sentences else None,
        "comparison": recipe.comparison or ComparisonBlock(),
    }
    plain = recipe.model_dump()
    for key, about in Recipe.model_fields.items():
        value, description = filled.get(key, getattr(recipe, key)), about.description or ""
        if value is None and key in ("decoding", "published"):
            continue
        if key in TABLES:
            component = TABLES[key][value["name"]]
            fields = model_of(component, DataCommon if key == "data" and not recipe.of_sentences else None).model_fields
            choices = f"one of {', '.join(TABLES[key])}"
            lines += ["", f"{key}:  # {description}", *_line("name", value["name"], choices, indent=2)]
            lines += _lines(fields, value)
        elif isinstance(value, Block):
            lines += ["", f"{key}:  # {description}", *_lines(type(value).model_fields, value.model_dump())]
        else:
            lines += [""] if lines[-1].startswith(" ") else []  # behind a block
            lines += _line(key, plain[key], description)
    return "\n".join(lines) + "\n"


def _lines(fields: Mapping[str, FieldInfo], values: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a block, without the keys that an inner mapping leaves open."""
    lines = []
    for key, field in fields.items():
        value = values[key]
        if isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if inner is not None}
        lines += _line(key, value, field.description or "", indent=2)
    return lines


def _line(key: str, value: Any, description: str, *, indent: int = 0) -> list[str]:
    """Returns `key: value  # description`; a long description stands above, wrapped."""
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    shown = shown.removesuffix("...").strip()
    margin = " " * indent
    text = f"{margin}{key}: {shown}"
    description = re.sub(r"\bNone\b", "null", description.rstrip(".").replace("`", ""))
    if len(text) <= _COMMENT_COLUMN - 2 and len(description) <= 76:
        return [f"{text:<{_COMMENT_COLUMN}}# {description}" if description else text]
    wrapped = textwrap.wrap(description, 108 - indent) if description else []
    return [f"{margin}# {line}" for line in wrapped] + [text]
