"""Variants of an objective: what is typed or listed in a recipe, checked and named."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from labelembed.errors import nearest
from labelembed.lab.errors import RecipeError
from labelembed.lab.recipes.blocks import MOST_SEEDS, ComparisonBlock, checked_seeds
from labelembed.lab.recipes.loading import (
    parse_variant,
    split_variants,
    variant_folder,
    variant_name,
    with_own_arguments,
)
from labelembed.lab.recipes.references import points_outside
from labelembed.lab.recipes.schema import Recipe, parse_recipe


@dataclass(frozen=True)
class Variant:
    """One row of the table: an objective with its settings.

    Args:
        name: As people read it.
        folder: Its folder below ``runs/``.
        objective: The block of the recipe.
        given: The block as it was asked for, without defaults.
        settings: Other blocks of the recipe that are this variant's own, as tuning chose them.
    """

    name: str
    folder: str
    objective: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)

    def recipe_of(self, recipe: Recipe, seed: int) -> Recipe:
        """Returns the recipe of one run: this variant's, with a seed."""
        own = {"objective": self.objective, **self.settings}
        return recipe.model_copy(update=own | {"seed": seed, "comparison": None})


def variants_of(recipe: Recipe, objectives: str | Sequence[str | dict[str, Any]] | None) -> list[Variant]:
    """Returns the variants of a list, which may be text with commas, or of the recipe's own where that is None."""
    if objectives is not None:
        texts = split_variants(objectives) if isinstance(objectives, str) else objectives
        return checked_variants(recipe, texts, source="--objectives")
    block = recipe.comparison or ComparisonBlock()
    return checked_variants(recipe, block.objectives, source="comparison.objectives")


def seeds_of(recipe: Recipe, seeds: str | int | Sequence[int] | None) -> list[int]:
    """Returns the seeds of a comparison: those given, else the recipe's own; a number of them begins at its `seed`.

    Raises:
        RecipeError: What is given is neither a number of seeds nor a list of them.
    """
    if isinstance(seeds, str):
        return given_seeds(seeds, first=recipe.seed)
    if seeds is None:
        return checked_seeds((recipe.comparison or ComparisonBlock()).seeds, first=recipe.seed)
    try:
        return checked_seeds(seeds if isinstance(seeds, int) else list(seeds), first=recipe.seed)
    except ValueError as error:
        raise RecipeError([str(error)], source="seeds") from error


def checked_variants(recipe: Recipe, texts: Sequence[str | dict[str, Any]], *, source: str) -> list[Variant]:
    """Returns the variants of a list, every one of them checked with the recipe it goes into.

    Args:
        recipe: Everything but the objective.
        texts: The variants, see `loading.parse_variant`.
        source: The option or key they come from, for messages.

    Raises:
        RecipeError: With every error of every variant.
    """
    if not texts:
        raise RecipeError(["no objective to compare"], source=source)
    blocks = [parse_variant(text, source=source) for text in texts]
    checked: list[dict[str, Any] | None] = []
    errors: list[str] = []
    for block in blocks:
        try:
            whole = with_own_arguments(block, recipe.objective)
            checked.append(parse_recipe(recipe.of_one_run() | {"objective": whole}, source=source).objective)
        except RecipeError as error:
            errors += [f"{variant_name({'name': '?', **block})}: {error}" for error in error.errors]
            checked.append(None)
    variants: list[Variant] = []
    for block, objective in zip(blocks, checked, strict=True):
        if objective is None:
            continue
        variant = Variant(_name_among(block, blocks), variant_folder(block), objective, block)
        if points_outside(recipe.model_copy(update={"objective": objective})):
            # Two files may have one name, as those that runs leave.
            digest = hashlib.sha256(json.dumps(block, default=str).encode()).hexdigest()[:8]
            variant = replace(variant, folder=f"{variant.folder}-{digest}")
        if any(variant.objective == other.objective or variant.name == other.name for other in variants):
            errors.append(f"{variant.name}: is given more than once")
        variants.append(variant)
    if errors:
        raise RecipeError(errors, source=source)
    return variants


def _name_among(block: dict[str, Any], blocks: list[dict[str, Any]]) -> str:
    """Returns a variant's name; with whole paths where the names of the files are not enough."""
    name = variant_name(block)
    alike = [other for other in blocks if "name" in other and variant_name(other) == name]
    return name if all(other == block for other in alike) else variant_name(block, whole_paths=True)


def given_seeds(given: str, *, first: int = 0, source: str = "--seeds") -> list[int]:
    """Returns the seeds of a text: how many, counted from `first` on (``8``), or which ones (``0-7``, ``3,5``).

    Raises:
        RecipeError: It is neither.
    """
    parts = [re.fullmatch(r"(\d{1,30})(?:-(\d{1,30}))?", part.strip()) for part in given.split(",") if part.strip()]
    ranges = [range(int(part[1]), int(part[2] or part[1]) + 1) for part in parts if part is not None]
    if not ranges or None in parts or not all(ranges):
        message = f"{given!r} must be how many seeds (8), or which ones: a range (0-7) or a list (3,5; one seed: '12,')"
        raise RecipeError([message], source=source)
    try:
        if sum(part.stop - part.start for part in ranges) > MOST_SEEDS:
            raise ValueError(f"must be at most {MOST_SEEDS:,} seeds, got {given}")
        listed = [seed for part in ranges for seed in part]
        return checked_seeds(listed if {",", "-"} & set(given) else listed[0], first=first)
    except ValueError as error:
        way_out = "; for the seed 0 alone give '0,'" if given.strip() == "0" else ""
        raise RecipeError([f"{error}{way_out}"], source=source) from error


def baseline_among(variants: list[Variant], wanted: str | None, *, source: str) -> str:
    """Returns the name of the variant that is meant; None: the first.

    Raises:
        RecipeError: None of them is, or more than one.
    """
    if wanted is None:
        return variants[0].name
    if wanted.strip() in [variant.name for variant in variants]:  # as the table prints it
        return wanted.strip()
    block = parse_variant(wanted, source=source)
    names = (variant_name(block), variant_name(block, whole_paths=True))
    exact = [variant for variant in variants if variant.name in names]
    matching = exact or [variant for variant in variants if variant.objective.get("name") in names]
    if len(matching) != 1:
        listed = ", ".join(variant.name for variant in variants)
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(names[0], [variant.name for variant in variants])
        raise RecipeError([f"{wanted!r} {what} the variants{hint}: {listed}"], source=source)
    return matching[0].name
