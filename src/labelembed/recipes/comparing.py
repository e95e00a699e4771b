"""Comparisons: variants of the objective times seeds, one run folder each, finished ones reused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelembed.errors import RecipeError, RunFolderError, nearest
from labelembed.recipes.building import embedding_path
from labelembed.recipes.loading import parse_variant, split_variants, variant_folder, variant_name
from labelembed.recipes.running import refuse_other_recipe, run_job
from labelembed.recipes.schema import ComparisonBlock, Recipe, parse_recipe
from labelembed.training.files import make_writable_folder, write_json
from labelembed.training.run_folder import RunFolder
from labelembed.training.workers import Event, Job, run_jobs


@dataclass(frozen=True)
class Variant:
    """One row of the table: an objective with its settings.

    Args:
        name: As people read it.
        folder: Its folder below ``runs/``.
        objective: The block of the recipe.
    """

    name: str
    folder: str
    objective: dict[str, Any]


@dataclass(frozen=True)
class ComparisonPlan:
    """What a comparison will run, all of it checked.

    Args:
        recipe_name: For people and for the comparison's folder.
        variants: The rows of the table.
        baseline: Name of the variant that the others are compared with.
        seeds: Of the runs; the same for every variant, so that differences are paired.
        runs: One (variant, seed, recipe, folder) for each run.
    """

    recipe_name: str
    variants: list[Variant]
    baseline: str
    seeds: list[int]
    runs: list[tuple[Variant, int, Recipe, Path]]

    def finished(self) -> list[Path]:
        """Returns the folders of the runs that are done."""
        return [folder for *_, folder in self.runs if RunFolder(folder).state() == "finished"]


def plan_comparison(
    recipe: Recipe,
    recipe_name: str,
    out: Path,
    *,
    objectives: str | None = None,
    seeds: str | None = None,
    baseline: str | None = None,
) -> ComparisonPlan:
    """Returns what a comparison will run, with every recipe checked and every existing folder looked into.

    Args:
        recipe: Everything but objective and seed.
        recipe_name: For people.
        out: The comparison folder.
        objectives: Comma-separated variants; None: the recipe's own list.
        seeds: A number of seeds, or a comma-separated list of them; None: the recipe's own.
        baseline: Name of a variant, or of its objective; None: the recipe's, else the first.

    Raises:
        RecipeError: With every fault of every variant.
        RunFolderError: When a folder holds the run of another recipe.
    """
    block = recipe.comparison or ComparisonBlock()
    texts: Sequence[str | dict[str, Any]] = block.objectives if objectives is None else split_variants(objectives)
    variants = _variants(recipe, texts)
    chosen = _seeds(block.seeds if seeds is None else seeds)
    base = _baseline(variants, baseline if baseline is not None else block.baseline)
    runs = []
    for seed in chosen:  # seed by seed, so that an early look compares all variants
        for variant in variants:
            run = recipe.model_copy(update={"objective": variant.objective, "seed": seed, "comparison": None})
            runs.append((variant, seed, run, out / "runs" / variant.folder / f"seed-{seed}"))
    plan = ComparisonPlan(recipe_name, variants, base, chosen, runs)
    for *_, run, folder in plan.runs:
        if RunFolder(folder).state() != "empty":
            refuse_other_recipe(run, RunFolder(folder))
    return plan


def _variants(recipe: Recipe, texts: Sequence[str | dict[str, Any]]) -> list[Variant]:
    if not texts:
        raise RecipeError(["no objective to compare"], source="--objectives")
    variants: list[Variant] = []
    faults: list[str] = []
    for text in texts:
        given = parse_variant(text)
        try:
            values = recipe.of_one_run() | {"objective": given}
            checked = parse_recipe(values, source="objectives")
        except RecipeError as error:
            faults += [f"{variant_name({'name': '?', **given})}: {fault}" for fault in error.faults]
            continue
        folder = variant_folder(given)
        if embedding_path(checked) is not None:  # two files may have one name
            folder += "-" + hashlib.sha256(json.dumps(given, default=str).encode()).hexdigest()[:8]
        variant = Variant(variant_name(given), folder, checked.objective)
        if any(variant.objective == other.objective or variant.name == other.name for other in variants):
            faults.append(f"{variant.name}: stands more than once among the objectives")
        variants.append(variant)
    if faults:
        raise RecipeError(faults, source="objectives")
    return variants


def _seeds(given: int | list[int] | str) -> list[int]:
    if isinstance(given, str):
        parts = [part.strip() for part in given.split(",") if part.strip()]
        if not parts or not all(part.isdecimal() for part in parts):
            message = f"{given!r} must be a number of seeds, or seeds with commas between them (one seed: '12,')"
            raise RecipeError([message], source="--seeds")
        given = [int(part) for part in parts] if "," in given else int(parts[0])
    if isinstance(given, int):
        if given < 1:
            raise RecipeError([f"must be at least 1, got {given}"], source="--seeds")
        return list(range(given))
    if not given or len(set(given)) != len(given) or min(given) < 0:
        raise RecipeError([f"must be different numbers from 0 up, got {given}"], source="--seeds")
    return list(given)


def _baseline(variants: list[Variant], wanted: str | None) -> str:
    if wanted is None:
        return variants[0].name
    name = variant_name(parse_variant(wanted))
    matching = [variant for variant in variants if name in (variant.name, variant.objective["name"])]
    exact = [variant for variant in matching if variant.name == name]
    if len(exact or matching) != 1:
        names = ", ".join(variant.name for variant in variants)
        what = "stands for more than one of" if matching else "is none of"
        hint = nearest(name, [variant.name for variant in variants])
        raise RecipeError([f"{wanted!r} {what} the variants{hint}: {names}"], source="--baseline")
    return (exact or matching)[0].name


def run_comparison(
    plan: ComparisonPlan,
    out: Path,
    *,
    jobs: int,
    device: str | None = None,
    observe: Callable[[Event], None] = lambda event: None,
) -> dict[str, str]:
    """Makes the runs that are not finished and writes ``comparison.json``.

    Args:
        plan: What `plan_comparison` returned.
        out: The comparison folder.
        jobs: Worker processes, of one thread each.
        device: `cpu`, or None for what there is.
        observe: Called with what happens to each run.

    Returns:
        Why runs failed, by the name of the run; they are listed in the table and tried again next time.

    Raises:
        InterruptedTraining: After a signal.
    """
    make_writable_folder(out)
    done = {str(folder) for folder in plan.finished()}
    todo = [
        Job(
            f"{variant.name} seed {seed}",
            {
                "recipe": run.of_one_run(),
                "source": f"{plan.recipe_name}, {variant.name}",
                "folder": str(folder),
                "device": device,
            },
        )
        for variant, seed, run, folder in plan.runs
        if str(folder) not in done
    ]
    about = {
        "format": 1,
        "recipe": plan.recipe_name,
        "baseline": plan.baseline,
        "seeds": plan.seeds,
        "variants": [{"name": v.name, "folder": v.folder, "objective": v.objective} for v in plan.variants],
        "reused": len(done),
        "made": len(todo),
    }
    write_json(out / "comparison.json", about)
    failed: dict[str, str] = {}
    for event in run_jobs(todo, run_job, processes=jobs):
        observe(event)
        if event.kind == "failed":
            failed[event.job.name] = event.message
    return failed


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def refuse_run_folder(out: Path) -> None:
    """Raises RunFolderError when a comparison is asked to go into a single run's folder, or onto a file."""
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    if (out / "recipe.yaml").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another folder with --out")
