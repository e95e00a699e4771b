"""Variants of an objective: what is typed or listed in a recipe, checked and named; and the seeds of a comparison."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pydantic

from labelembed.errors import nearest
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.components import model_errors, shown
from labelembed.lab.recipes.references import points_outside
from labelembed.lab.recipes.schema import MOST_SEEDS, ComparisonBlock, Recipe, parse_recipe
from labelembed.lab.training.files import plain_values
from labelembed.objectives import OBJECTIVES


@dataclass(frozen=True)
class Variant:
    """One row of the table: an objective with its settings.

    Args:
        name: As people read it.
        folder: Its folder below ``runs/``.
        objective: The block of the recipe.
        settings: Other blocks of the recipe that are this variant's own, as tuning chose them.
    """

    name: str
    folder: str
    objective: dict[str, Any]
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recipe_of(self, recipe: Recipe, seed: int) -> Recipe:
        """Returns the recipe of one run: this variant's, with a seed."""
        own = {"objective": self.objective, **self.settings}
        return recipe.model_copy(update=own | {"seed": seed, "comparison": None})


def parse_variant(text: str | dict[str, Any], *, source: str) -> dict[str, Any]:
    """Returns an objective's block from ``name:key=value:key=value``, or the block itself; raises RecipeError."""
    if isinstance(text, dict):
        return dict(text)
    # A colon that does not begin `key=` belongs to a value, as in a path.
    name, *pairs = re.split(r":(?=\s*\w+\s*=)", str(text).strip())
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
            message = f"{name.strip()}: {key.strip()}: {shown(value)} cannot be read: {error}"
            raise RecipeError([message], source=source) from error
    return block


def with_own_arguments(block: dict[str, Any], own: Any) -> dict[str, Any]:
    """Returns a variant's block with what the recipe says of the same objective, where the variant does not say it.

    A recipe over 50,000 words says that its label embedding is compressed; one that is named beside one-hot, or with
    another temperature, is so too. A variant that names a preset takes from it all that presets decide.
    """
    if not isinstance(own, dict) or own.get("name") != block.get("name"):
        return block
    presets = getattr(inspect.getmodule(OBJECTIVES.get(block["name"])), "PRESETS", {}) if "preset" in block else {}
    decided = {argument for preset in presets.values() for argument in preset} if isinstance(presets, dict) else ()
    return {key: value for key, value in own.items() if key not in decided} | block


def variant_name(block: dict[str, Any]) -> str:
    """Returns a variant as people read it, ``label_embedding preset=paper``; of a path the file and its folder."""
    values = {key: "/".join(Path(v).parts[-2:]) if isinstance(v, str) and "/" in v else v for key, v in block.items()}
    return " ".join([str(block["name"]), *(f"{key}={value}" for key, value in values.items() if key != "name")])


def variant_folder(block: dict[str, Any]) -> str:
    """Returns a variant's folder name: its name without what a file system minds, cut where it is too long."""
    name = re.sub(r"[^\w.=+-]+", "_", variant_name(block).replace(" ", "-"))
    if len(name.encode()) <= 255:  # more is refused
        return name
    return f"{name.encode()[:200].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def variants_of(recipe: Recipe, objectives: str | Sequence[str | dict[str, Any]] | None) -> list[Variant]:
    """Returns the variants of a list, which may be text with commas, or of the recipe's own where that is None.

    Each is checked with its recipe; raises RecipeError with all errors of all.
    """
    source = "--objectives"
    if objectives is None:
        objectives, source = (recipe.comparison or ComparisonBlock()).objectives, "comparison.objectives"
    if isinstance(objectives, str):  # commas inside brackets belong to a value
        objectives = [part.strip() for part in re.split(r",(?![^\[]*\])", objectives) if part.strip()]
    if not objectives:
        raise RecipeError(["no objective to compare"], source=source)
    errors: list[str] = []
    variants: list[Variant] = []
    for block in [parse_variant(text, source=source) for text in objectives]:
        name = variant_name({"name": "?", **block})
        whole = recipe.of_one_run() | {"objective": with_own_arguments(block, recipe.objective)}
        try:
            checked = parse_recipe(whole, source=source)
        except RecipeError as error:
            errors += [f"{name}: {line}" for line in error.errors]
            continue
        variant = Variant(name, variant_folder(block), checked.objective)
        if points_outside(checked):
            digest = hashlib.sha256(json.dumps(block, default=str).encode()).hexdigest()[:8]
            variant = replace(variant, folder=variant_folder({"name": f"{variant.folder}-{digest}"}))
        if any(variant.objective == other.objective or variant.name == other.name for other in variants):
            errors.append(f"{variant.name}: is given more than once")
        variants.append(variant)
    if errors:
        raise RecipeError(errors, source=source)
    return variants


def baseline_among(variants: list[Variant], wanted: str | None, *, source: str) -> str:
    """Returns the one variant that is wanted, by name or objective, or the first; else raises RecipeError."""
    if wanted is None:
        return variants[0].name
    if wanted.strip() in [variant.name for variant in variants]:  # as the table prints it
        return wanted.strip()
    name, listed = variant_name(parse_variant(wanted, source=source)), [variant.name for variant in variants]
    matching = [one for one in listed if one == name]
    matching = matching or [one.name for one in variants if one.objective.get("name") == name]
    if len(matching) != 1:
        what, hint = ("stands for more than one of", "") if matching else ("is none of", nearest(name, listed))
        raise RecipeError([f"{wanted!r} {what} the variants{hint}: {', '.join(listed)}"], source=source)
    return matching[0]


def seeds_of(recipe: Recipe, seeds: str | int | Sequence[int] | None) -> list[int]:
    """Returns the seeds given or the recipe's own: so many from its `seed` on, or those listed; raises RecipeError."""
    given = (recipe.comparison or ComparisonBlock()).seeds if seeds is None else seeds
    source = "--seeds" if isinstance(given, str) else "seeds"
    wanted = "give how many seeds (8), or which ones: a range (0-7) or a list (3,5; one seed: '12,')"
    if isinstance(given, str):
        parts = map(re.compile(r" *([0-9]{1,20})(?:-([0-9]{1,20}))? *").fullmatch, given.strip(", ").split(","))
        ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) if part else range(0) for part in parts]
        if not all(ranges):
            raise RecipeError([f"{given!r}: {wanted}"], source=source)
        listed = [seed for part in ranges for seed in islice(part, MOST_SEEDS + 1)]
        given = listed if {",", "-"} & set(given) else listed[0]
    try:
        checked = ComparisonBlock(seeds=list(given) if isinstance(given, Iterable) else given).seeds
    except pydantic.ValidationError as error:
        wrong = [*model_errors(error, ComparisonBlock).values(), wanted]
        raise RecipeError(["; ".join(wrong)], source=source) from error
    return list(range(recipe.seed, recipe.seed + checked)) if isinstance(checked, int) else checked
