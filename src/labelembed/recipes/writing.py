"""`labelembed init`: a recipe with every key there is, each with a comment."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml

from labelembed.data import CORPORA
from labelembed.recipes.blocks import ComparisonBlock, DataCommon
from labelembed.recipes.loading import read_recipe, recipe_heading, shipped_recipes
from labelembed.recipes.schema import TABLES, Recipe, parse_recipe
from labelembed.recipes.signature import keys_of
from labelembed.training.decoding import Decoding
from labelembed.training.settings import Block

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
    for key, field in Recipe.model_fields.items():
        value = getattr(recipe, key)
        if key in TABLES:
            lines += _component(key, value, field.description or "")
        elif key == "decoding":
            if recipe.of_sentences:
                lines += _block(key, value or Decoding(), field.description or "")
        elif key == "comparison":
            lines += _block(key, value or ComparisonBlock(), field.description or "")
        elif key == "published":
            if value:
                lines += ["", *_line(key, recipe.model_dump()[key], field.description or "")]
        elif isinstance(value, Block):
            lines += _block(key, value, field.description or "")
        else:
            lines += [""] if lines[-1].startswith(" ") else []  # behind a block
            lines += _line(key, value, field.description or "")
    return "\n".join(lines) + "\n"


def _component(kind: str, block: dict[str, Any], description: str) -> list[str]:
    table = TABLES[kind]
    lines = ["", f"{kind}:  # {description}", *_line("name", block["name"], f"one of {', '.join(table)}", indent=2)]
    for key in keys_of(table[block["name"]]).values():
        lines += _line(key.name, block[key.name], key.description, indent=2)
    if kind == "data" and block["name"] not in CORPORA:
        for name, field in DataCommon.model_fields.items():
            value = block[name]
            if isinstance(value, dict):
                value = {key: inner for key, inner in value.items() if inner is not None}
            lines += _line(name, value, field.description or "", indent=2)
    return lines


def _block(kind: str, block: Block, description: str) -> list[str]:
    lines, values = ["", f"{kind}:  # {description}"], block.model_dump()
    for key, field in type(block).model_fields.items():
        lines += _line(key, values[key], field.description or "", indent=2)
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
