"""`labelembed init`: a recipe with every key there is, each with a comment."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from labelembed.lab.recipes.components import model_of, takes
from labelembed.lab.recipes.loading import read_recipe, recipe_heading, shipped_recipes
from labelembed.lab.recipes.schema import TABLES, ComparisonBlock, DataCommon, Recipe, parse_recipe
from labelembed.lab.training.decoding import Decoding
from labelembed.lab.training.settings import Block

_COMMENT_COLUMN = 42


def full_recipe(name: str) -> str:
    """Returns the text of a recipe that ships, or of a YAML file, with every key explained; raises RecipeError."""
    values, _, source = read_recipe(name)
    text = shipped_recipes().get(name) or Path(name).read_text(encoding="utf-8")
    data: Any = {"name": values["data"]} if isinstance(values.get("data"), str) else values.get("data")
    reader = TABLES["data"].get(str(data.get("name"))) if isinstance(data, dict) else None
    if reader is not None and takes(reader, "path"):
        values["data"] = {"path": "path/to/data", **data}
    recipe = parse_recipe(values, source=source)
    decoding = (recipe.decoding or Decoding()) if recipe.of_sentences else None
    filled = recipe.model_copy(update={"decoding": decoding, "comparison": recipe.comparison or ComparisonBlock()})
    plain = filled.model_dump()
    lines = [f"# {line}".rstrip() for line in recipe_heading(text)]
    lines += [*(["#"] if lines else []), "# Every key with its value; `null` leaves the choice to the program."]
    for key, field in Recipe.model_fields.items():
        value, description = getattr(filled, key), field.description or ""
        fields = type(value).model_fields if isinstance(value, Block) else {}
        if key in TABLES:
            common = DataCommon if key == "data" and not recipe.of_sentences else None
            names = Field(description=f"one of {', '.join(TABLES[key])}")
            fields = {"name": names} | model_of(TABLES[key][value["name"]], common).model_fields
        if fields:
            lines += ["", f"{key}:  # {description}"]
            for name, inner in fields.items():
                lines += _line(name, plain[key][name], inner.description or "", indent=2)
        elif value is not None or key != "decoding":
            lines += [""] if lines[-1].startswith(" ") else []  # behind a block
            lines += _line(key, plain[key], description)
    return "\n".join(lines) + "\n"


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
