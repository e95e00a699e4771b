"""`labelembed init`: a recipe with every key there is, each with a comment."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from labelembed.lab.recipes.components import keys_of, model_of
from labelembed.lab.recipes.loading import read_recipe, recipe_heading, shipped_recipes
from labelembed.lab.recipes.schema import TABLES, ComparisonBlock, DataCommon, Recipe, parse_recipe
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
    heading = [f"# {line}".rstrip() for line in recipe_heading(shipped_recipes().get(name) or Path(name).read_text())]
    data = values.get("data")
    data = {"name": data} if isinstance(data, str) else data
    if isinstance(data, dict) and "path" in keys_of(TABLES["data"].get(str(data.get("name")), dict)):
        values["data"] = {"path": "path/to/data", **data}
    recipe = parse_recipe(values, source=source)
    lines = [*heading, *(["#"] if heading else [])]
    lines += ["# Every key with its value; `null` leaves the choice to the program."]
    filled = recipe.model_copy(
        update={
            "decoding": (recipe.decoding or Decoding()) if recipe.of_sentences else None,
            "comparison": recipe.comparison or ComparisonBlock(),
        }
    )
    plain = filled.model_dump()
    for key, field in Recipe.model_fields.items():
        value, description = getattr(filled, key), field.description or ""
        if key in TABLES:
            component = TABLES[key][value["name"]]
            common = DataCommon if key == "data" and not recipe.of_sentences else None
            lines += ["", f"{key}:  # {description}"]
            lines += _line("name", value["name"], f"one of {', '.join(TABLES[key])}", indent=2)
            lines += _lines(model_of(component, common).model_fields, value)
        elif isinstance(value, Block):
            lines += ["", f"{key}:  # {description}", *_lines(type(value).model_fields, plain[key])]
        elif value is not None or key not in ("decoding", "published"):
            lines += [""] if lines[-1].startswith(" ") else []  # behind a block
            lines += _line(key, plain[key], description)
    return "\n".join(lines) + "\n"


def _lines(fields: Mapping[str, FieldInfo], values: Mapping[str, Any]) -> list[str]:
    return [
        line for key, field in fields.items() for line in _line(key, values[key], field.description or "", indent=2)
    ]


def _line(key: str, value: Any, description: str, *, indent: int = 0) -> list[str]:
    """Returns `key: value  # description`; a long description stands above, wrapped."""
    if isinstance(value, dict):  # without the keys that it leaves open
        value = {name: inner for name, inner in value.items() if inner is not None}
    shown = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).strip()
    margin = " " * indent
    text = f"{margin}{key}: {shown.removesuffix('...').strip()}"
    description = re.sub(r"\bNone\b", "null", description.rstrip(".").replace("`", ""))
    if len(text) <= _COMMENT_COLUMN - 2 and len(description) <= 76:
        return [f"{text:<{_COMMENT_COLUMN}}# {description}" if description else text]
    return [f"{margin}# {line}" for line in textwrap.wrap(description, 108 - indent)] + [text]
