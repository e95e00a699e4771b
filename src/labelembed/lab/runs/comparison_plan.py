"""What a comparison will run: variants times seeds, a run folder each, beside what its folder holds already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labelembed.lab.errors import RunFolderError
from labelembed.lab.recipes.schema import ComparisonBlock, Recipe
from labelembed.lab.recipes.variants import Variant, baseline_among, seeds_of, variants_of
from labelembed.lab.runs.recipe_diff import check_same_recipe, differences, listed
from labelembed.lab.training.comparison_folder import description_before, seeds_of_variant
from labelembed.lab.training.run_folder import RunFolder

_WAY_OUT = "choose another --out, or start over with --overwrite"


@dataclass(frozen=True)
class ComparisonPlan:
    """What a comparison will run, all of it checked.

    Args:
        recipe_name: For people and for the comparison's folder.
        variants: What is asked for, a line of the table each.
        baseline: Name of the variant that the others are compared with.
        seeds: Of the runs; the same for every variant, so that differences are paired.
        runs: One (variant, seed, recipe, folder) for each run.
        published: What papers report for the recipe, for the report.
        tuning: How the variants' arguments were found, for the report; None where nothing was tuned.
        before: What the folder's ``comparison.json`` says so far; None for a new comparison.
        kept: Names of variants of `before` that are not asked for and stay in the table.
    """

    recipe_name: str
    variants: list[Variant]
    baseline: str
    seeds: list[int]
    runs: list[tuple[Variant, int, Recipe, Path]]
    published: list[dict[str, Any]] = field(default_factory=list)
    tuning: dict[str, Any] | None = None
    before: dict[str, Any] | None = None
    kept: list[str] = field(default_factory=list)

    def finished(self) -> list[Path]:
        """Returns the folders of the runs that are done."""
        return [folder for *_, folder in self.runs if RunFolder(folder).state() == "finished"]


def half_done(runs: Sequence[tuple[Variant, int, Recipe, Path]]) -> dict[str, float]:
    """Returns by the name of a run how many epochs of it are done, of those that have begun and not finished."""
    begun = [(run_name(variant, seed), RunFolder(folder)) for variant, seed, _, folder in runs]
    return {name: float(len(folder.history())) for name, folder in begun if folder.state() == "unfinished"}


def run_name(variant: Variant, seed: int) -> str:
    """Returns what a run of a comparison is called."""
    return f"{variant.name} seed {seed}"


def plan_comparison(
    recipe: Recipe,
    recipe_name: str,
    out: Path,
    *,
    objectives: str | Sequence[str | dict[str, Any]] | None = None,
    seeds: str | int | Sequence[int] | None = None,
    baseline: str | None = None,
    tuned: bool = False,
    overwrite: bool = False,
) -> ComparisonPlan:
    """Returns what a comparison will run, with every recipe checked and every existing folder looked into.

    Where the folder holds a comparison already, variants and seeds are added to it.

    Args:
        recipe: Everything but objective and seed.
        recipe_name: For people.
        out: The comparison folder.
        objectives: Variants, as a list or with commas between them; None: the recipe's own list.
        seeds: A number of seeds, or a list of them, or either as text; None: the recipe's own.
        baseline: Name of a variant, or of its objective; None: that of the folder, else the recipe's, else the first.
        tuned: The variants' arguments will be tuned first.
        overwrite: What is in the folder will be removed, and is not looked at.

    Raises:
        RecipeError: With every error of every variant.
        RunFolderError: When a folder holds the run of another recipe, or the comparison is of another one.
    """
    variants, block = variants_of(recipe, objectives), recipe.comparison or ComparisonBlock()
    before = None if overwrite else description_before(out)
    if before is not None and "tuning" in before and not tuned:
        raise RunFolderError(
            f"{out}: holds tuned variants, which these do not stand beside: add --tuned, or {_WAY_OUT}"
        )
    if before is not None and tuned:
        _refuse_to_add_tuned(out, before, variants)
        before = None  # it is made as a whole, of the same variants
    kept = [] if before is None else _kept_variants(before, variants)
    if before is not None:
        _refuse_other_comparison(recipe, out, kept, before)
    asked = [*variants, *(Variant(one["name"], one["folder"], one["objective"]) for one in kept)]
    if baseline is not None:
        base = baseline_among(asked, baseline, source="--baseline")
    elif before is not None and before["baseline"] in [one.name for one in asked]:
        base = before["baseline"]
    else:
        base = baseline_among(variants, block.baseline, source="comparison.baseline")
    return plan_runs(
        recipe,
        recipe_name,
        out,
        variants=variants,
        baseline=base,
        seeds=seeds_of(recipe, seeds),
        before=before,
        overwrite=overwrite,
    )


def plan_runs(
    recipe: Recipe,
    recipe_name: str,
    out: Path,
    *,
    variants: list[Variant],
    baseline: str,
    seeds: list[int],
    tuning: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> ComparisonPlan:
    """Returns the plan of checked variants, with every existing folder looked into; see `plan_comparison`.

    Args:
        recipe: See `plan_comparison`.
        recipe_name: The same.
        out: The same.
        variants: Checked, with their own settings.
        baseline: The name of one.
        seeds: Of each.
        tuning: How the arguments of the variants were found; None: they were not tuned.
        before: The comparison that they are added to; None: a new one.
        overwrite: See `plan_comparison`.
    """
    runs = []
    for seed in seeds:  # seed by seed, so that an early look compares all variants
        for variant in variants:
            folder = out / "runs" / variant.folder / f"seed-{seed}"
            runs.append((variant, seed, variant.recipe_of(recipe, seed), folder))
    for *_, run, folder in runs:
        if not overwrite and RunFolder(folder).state() != "empty":
            check_same_recipe(run, RunFolder(folder), way_out=_WAY_OUT)
    published = [figure.model_dump() for figure in recipe.published or ()]
    kept = []
    if before is not None:
        kept, tuning = [one["name"] for one in _kept_variants(before, variants)], before.get("tuning")
    return ComparisonPlan(recipe_name, variants, baseline, seeds, runs, published, tuning, before, kept)


def _kept_variants(before: dict[str, Any], variants: Sequence[Variant]) -> list[dict[str, Any]]:
    """Returns what a folder's description says of the variants that are not asked for again."""
    names = {variant.name for variant in variants}
    return [one for one in before["variants"] if one["name"] not in names]


def _refuse_to_add_tuned(out: Path, before: dict[str, Any], variants: Sequence[Variant]) -> None:
    """Raises RunFolderError where tuned and other variants would stand in one table, or tuned by unequal trials."""
    tuning = before.get("tuning")
    entries = tuning.get("variants", []) if isinstance(tuning, dict) else []
    was = {entry["name"]: entry["was"] for entry in entries if "name" in entry and "was" in entry}
    names = {variant.name for variant in variants}
    missing = [one["name"] for one in before["variants"] if not {one["name"], was.get(one["name"])} & names]
    if missing:
        raise RunFolderError(
            f"{out}: holds a comparison of {', '.join(missing)} too, and tuning gives equal trials to the variants of "
            f"one command: name all of them with --objectives, or {_WAY_OUT}"
        )


def _refuse_other_comparison(recipe: Recipe, out: Path, kept: list[dict[str, Any]], before: dict[str, Any]) -> None:
    """Raises RunFolderError, with the differences, where the variants that stay had another recipe."""
    for variant in kept:
        for seed in seeds_of_variant(before, variant):
            folder = RunFolder(out / "runs" / variant["folder"] / f"seed-{seed}")
            if folder.state() == "empty":
                continue
            found = {
                key: values
                for key, values in differences(recipe, folder).items()
                if not key.startswith("objective.") and key != "seed"
            }
            if found:
                raise RunFolderError(f"{out}: holds a comparison of another recipe; {_WAY_OUT}. {listed(found)}")
            break


def refuse_run_folder(out: Path) -> None:
    """Raises RunFolderError when a comparison is asked to go into a single run's folder, or onto a file."""
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    if (out / "recipe.yaml").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another folder with --out")
