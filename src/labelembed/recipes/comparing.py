"""Comparisons: variants of the objective times seeds, one run folder each, finished ones reused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from labelembed.errors import RecipeError, RunFolderError, nearest
from labelembed.recipes.blocks import ComparisonBlock, checked_seeds
from labelembed.recipes.building import network_for
from labelembed.recipes.given import points_outside, whole_paths
from labelembed.recipes.loading import (
    parse_variant,
    split_variants,
    variant_folder,
    variant_name,
    with_own_arguments,
    with_whole_paths,
)
from labelembed.recipes.running import refuse_other_recipe, run_job
from labelembed.recipes.schema import Recipe, parse_recipe
from labelembed.training.cluster import Cluster
from labelembed.training.files import make_writable_folder, write_json
from labelembed.training.run_folder import RunFolder
from labelembed.training.training_data import TrainingData
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
        published: What papers report for the recipe, for the report.
    """

    recipe_name: str
    variants: list[Variant]
    baseline: str
    seeds: list[int]
    runs: list[tuple[Variant, int, Recipe, Path]]
    published: list[dict[str, Any]] = field(default_factory=list)

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
    variants = _variants(recipe, texts, source="comparison.objectives" if objectives is None else "--objectives")
    chosen = checked_seeds(block.seeds) if seeds is None else _seeds(seeds)
    if baseline is not None:
        base = _baseline(variants, baseline, source="--baseline")
    else:
        base = _baseline(variants, block.baseline, source="comparison.baseline")
    runs = []
    for seed in chosen:  # seed by seed, so that an early look compares all variants
        for variant in variants:
            run = recipe.model_copy(update={"objective": variant.objective, "seed": seed, "comparison": None})
            runs.append((variant, seed, run, out / "runs" / variant.folder / f"seed-{seed}"))
    published = [figure.model_dump() for figure in recipe.published or ()]
    plan = ComparisonPlan(recipe_name, variants, base, chosen, runs, published)
    for *_, run, folder in plan.runs:
        if RunFolder(folder).state() != "empty":
            refuse_other_recipe(run, RunFolder(folder))
    return plan


def _variants(recipe: Recipe, texts: Sequence[str | dict[str, Any]], *, source: str) -> list[Variant]:
    if not texts:
        raise RecipeError(["no objective to compare"], source=source)
    blocks = [parse_variant(text, source=source) for text in texts]
    checked: list[dict[str, Any] | None] = []
    faults: list[str] = []
    for block in blocks:
        try:
            whole = with_own_arguments(block, recipe.objective)
            checked.append(parse_recipe(recipe.of_one_run() | {"objective": whole}, source=source).objective)
        except RecipeError as error:
            faults += [f"{variant_name({'name': '?', **block})}: {fault}" for fault in error.faults]
            checked.append(None)
    variants: list[Variant] = []
    for block, objective in zip(blocks, checked, strict=True):
        if objective is None:
            continue
        variant = Variant(_name_among(block, blocks), variant_folder(block), objective)
        if points_outside(recipe.model_copy(update={"objective": objective})):
            # Two files may have one name, as those that runs leave.
            digest = hashlib.sha256(json.dumps(block, default=str).encode()).hexdigest()[:8]
            variant = replace(variant, folder=f"{variant.folder}-{digest}")
        if any(variant.objective == other.objective or variant.name == other.name for other in variants):
            faults.append(f"{variant.name}: stands more than once among the objectives")
        variants.append(variant)
    if faults:
        raise RecipeError(faults, source=source)
    return variants


def _name_among(block: dict[str, Any], blocks: list[dict[str, Any]]) -> str:
    """Returns a variant's name; with whole paths where the names of the files are not enough."""
    name = variant_name(block)
    alike = [other for other in blocks if "name" in other and variant_name(other) == name]
    return name if all(other == block for other in alike) else variant_name(block, whole_paths=True)


def _seeds(given: str) -> list[int]:
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() for part in parts):
        message = f"{given!r} must be a number of seeds, or seeds with commas between them (one seed: '12,')"
        raise RecipeError([message], source="--seeds")
    try:
        return checked_seeds([int(part) for part in parts] if "," in given else int(parts[0]))
    except ValueError as error:
        raise RecipeError([str(error)], source="--seeds") from error


def _baseline(variants: list[Variant], wanted: str | None, *, source: str) -> str:
    if wanted is None:
        return variants[0].name
    if wanted.strip() in [variant.name for variant in variants]:  # as the table prints it
        return wanted.strip()
    block = parse_variant(wanted, source=source)
    names = (variant_name(block), variant_name(block, whole_paths=True))
    exact = [variant for variant in variants if variant.name in names]
    matching = exact or [variant for variant in variants if variant.objective["name"] in names]
    if len(matching) != 1:
        listed = ", ".join(variant.name for variant in variants)
        what = "stands for more than one of" if matching else "is none of"
        hint = "" if matching else nearest(names[0], [variant.name for variant in variants])
        raise RecipeError([f"{wanted!r} {what} the variants{hint}: {listed}"], source=source)
    return matching[0].name


def try_networks(plan: ComparisonPlan, data: TrainingData) -> None:
    """Builds the network of every variant once and forgets it, so that what does not fit shows before any run.

    Raises:
        RecipeError: When a variant does not fit the data.
        DataError: When a saved geometry cannot be read.
    """
    first_runs = {variant.name: run for variant, _, run, _ in reversed(plan.runs)}
    for run in first_runs.values():
        network_for(run, data, to_try=True)


def run_comparison(
    plan: ComparisonPlan,
    out: Path,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    device: str | None = None,
    tensorboard: bool = False,
    observe: Callable[[Event], None] = lambda event: None,
) -> dict[str, str]:
    """Makes the runs that are not finished and writes ``comparison.json``.

    Args:
        plan: What `plan_comparison` returned.
        out: The comparison folder.
        jobs: Worker processes of this machine, of one thread each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
        tensorboard: Write the runs' journals for TensorBoard too.
        observe: Called with what happens to each run.

    Returns:
        Why runs failed, by the name of the run; they are listed in the table and tried again next time.

    Raises:
        InterruptedTraining: After a signal.
    """
    make_writable_folder(out)
    session = "" if cluster is None else cluster.ticket.session
    done = {str(folder) for folder in plan.finished()}
    todo = [
        Job(
            f"{variant.name} seed {seed}",
            {
                "recipe": with_whole_paths(run).of_one_run(),
                "source": f"{plan.recipe_name}, {variant.name}",
                "folder": str(folder if cluster is None else folder.absolute()),
                "device": device,
                "tensorboard": tensorboard,
                "session": session,
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
        "published": plan.published,
        "reused": len(done),
        "made": len(todo),
    }
    write_json(out / "comparison.json", about)
    failed: dict[str, str] = {}
    # Closed here and now, whatever `observe` raises: closing is what tells the workers to stop.
    events = run_jobs(todo, run_job, processes=jobs) if cluster is None else cluster.run_jobs(todo, run_job)
    jobs_at_work = cast("Generator[Event]", events)
    with contextlib.closing(jobs_at_work) as events:
        for event in events:
            observe(event)
            if event.kind == "failed":
                failed[event.job.name] = event.message
    return failed


def files_of(plan: ComparisonPlan) -> list[str]:
    """Returns the files and folders that the runs of a plan read, as whole paths."""
    found: dict[str, None] = {}
    for *_, recipe, _ in plan.runs:
        run = with_whole_paths(recipe)
        named = [run.data.get("path"), run.model.get("weights"), *whole_paths(run, None).values()]
        found |= dict.fromkeys(str(value).removeprefix("text:") for value in named if value is not None)
    return list(found)


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def refuse_run_folder(out: Path) -> None:
    """Raises RunFolderError when a comparison is asked to go into a single run's folder, or onto a file."""
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    if (out / "recipe.yaml").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another folder with --out")
