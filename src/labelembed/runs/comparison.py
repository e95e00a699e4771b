"""Comparisons: variants of the objective times seeds, one run folder each, finished ones reused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from labelembed.errors import RunFolderError
from labelembed.recipes.blocks import ComparisonBlock
from labelembed.recipes.loading import with_whole_paths
from labelembed.recipes.references import whole_paths
from labelembed.recipes.schema import Recipe
from labelembed.recipes.variants import Variant, baseline_among, seeds_of, variants_of
from labelembed.runs.recipe_diff import refuse_other_recipe
from labelembed.runs.run import run_job
from labelembed.runs.training_network import network_for
from labelembed.training.batches import TrainingData
from labelembed.training.cluster import Cluster
from labelembed.training.files import make_writable_folder, saving, write_json
from labelembed.training.jobs import VISIBLE_GPUS, Event, Job, run_jobs
from labelembed.training.run_folder import RunFolder
from labelembed.training.run_lock import locked
from labelembed.training.worker_log import LOG_FILE, with_last_lines

_DESCRIPTION_BYTES = 10_000


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
        tuning: How the variants' arguments were found, for the report; None where nothing was tuned.
    """

    recipe_name: str
    variants: list[Variant]
    baseline: str
    seeds: list[int]
    runs: list[tuple[Variant, int, Recipe, Path]]
    published: list[dict[str, Any]] = field(default_factory=list)
    tuning: dict[str, Any] | None = None

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
    variants = variants_of(recipe, objectives)
    if baseline is not None:
        base = baseline_among(variants, baseline, source="--baseline")
    else:
        block = recipe.comparison or ComparisonBlock()
        base = baseline_among(variants, block.baseline, source="comparison.baseline")
    return plan_runs(recipe, recipe_name, out, variants=variants, baseline=base, seeds=seeds_of(recipe, seeds))


def plan_runs(
    recipe: Recipe, recipe_name: str, out: Path, *, variants: list[Variant], baseline: str, seeds: list[int]
) -> ComparisonPlan:
    """Returns the plan of checked variants, with every existing folder looked into; see `plan_comparison`."""
    runs = []
    for seed in seeds:  # seed by seed, so that an early look compares all variants
        for variant in variants:
            folder = out / "runs" / variant.folder / f"seed-{seed}"
            runs.append((variant, seed, variant.recipe_of(recipe, seed), folder))
    published = [figure.model_dump() for figure in recipe.published or ()]
    plan = ComparisonPlan(recipe_name, variants, baseline, seeds, runs, published)
    for *_, run, folder in plan.runs:
        if RunFolder(folder).state() != "empty":
            refuse_other_recipe(run, RunFolder(folder))
    return plan


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
    track: Sequence[str] = (),
    observe: Callable[[Event], None] = lambda event: None,
    has_lock: bool = False,
) -> dict[str, str]:
    """Makes the runs that are not finished and writes ``comparison.json``.

    Args:
        plan: What `plan_comparison` returned.
        out: The comparison folder.
        jobs: Worker processes of this machine, of one thread and, where there are GPUs, one GPU each.
        cluster: Whose workers make the runs instead.
        device: `cpu`, or None for what there is.
        track: Log the runs' epochs to these trackers too, see `training.tracking`.
        observe: Called with what happens to each run.
        has_lock: The caller has the folder's lock (`training.run_lock`); otherwise it is taken here.

    Returns:
        Why runs failed, by the name of the run; they are listed in the table and tried again next time.

    Raises:
        RunFolderError: When another process makes the comparison, or the folder cannot be written.
        InterruptedTraining: After a signal.
    """
    with nullcontext() if has_lock else locked(out, doing="made"):
        return _made(plan, out, jobs=jobs, cluster=cluster, device=device, track=track, observe=observe)


def _made(
    plan: ComparisonPlan,
    out: Path,
    *,
    jobs: int,
    cluster: Cluster | None,
    device: str | None,
    track: Sequence[str],
    observe: Callable[[Event], None],
) -> dict[str, str]:
    make_writable_folder(out)
    session = "" if cluster is None else cluster.session
    done = {str(folder) for folder in plan.finished()}
    todo = [
        Job(
            f"{variant.name} seed {seed}",
            {
                "recipe": with_whole_paths(run).of_one_run(),
                "source": f"{plan.recipe_name}, {variant.name}",
                "folder": str(folder if cluster is None else folder.absolute()),
                "device": device,
                "track": list(track),
                "session": session,
            },
            log=folder.absolute() / LOG_FILE,  # a worker of a cluster is in another folder
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
        **({} if plan.tuning is None else {"tuning": plan.tuning}),
    }
    write = partial(_write_description, out, about)
    write()
    of_job = {f"{variant.name} seed {seed}": (variant.name, seed) for variant, seed, *_ in plan.runs}
    failed: dict[str, str] = {}
    without_a_word: list[dict[str, Any]] = []
    # Closed here and now, whatever `observe` raises: closing is what tells the workers to stop.
    if cluster is None:
        events = run_jobs(todo, run_job, processes=jobs, gpus=visible_gpus(device))
    else:
        events = cluster.run_jobs(todo, run_job)
    jobs_at_work = cast("Generator[Event]", events)
    with contextlib.closing(jobs_at_work) as events:
        for event in events:
            observe(event)
            if event.kind == "failed":
                failed[event.job.name] = event.message
                if not _tells_its_failure(event.job.payload["folder"]):
                    failed[event.job.name] = why = with_last_lines(event.message, event.job.log)
                    name, seed = of_job[event.job.name]
                    without_a_word.append({"variant": name, "seed": seed, "message": why})
                    write(failed=without_a_word)
    return failed


def _write_description(out: Path, about: dict[str, Any], **more: Any) -> None:
    """Writes ``comparison.json``.

    Raises:
        TrainingError: When it cannot be written.
    """
    with saving(out, needed_bytes=_DESCRIPTION_BYTES, way_on="When it can be saved again, give the same command again"):
        write_json(out / "comparison.json", about | more)


def _tells_its_failure(folder: str) -> bool:
    """Tells whether a run that failed has written why into its folder; one that was killed has not."""
    try:
        return RunFolder(folder).state() == "failed"
    except RunFolderError:
        return False


def files_of(plan: ComparisonPlan) -> list[str]:
    """Returns the files and folders that the runs of a plan read, as whole paths."""
    return files_of_recipes([recipe for *_, recipe, _ in plan.runs])


def files_of_recipes(recipes: Sequence[Recipe]) -> list[str]:
    """Returns the files and folders that runs of recipes read, as whole paths."""
    found: dict[str, None] = {}
    for recipe in recipes:
        run = with_whole_paths(recipe)
        named = [run.data.get("path"), run.model.get("weights"), *whole_paths(run, None).values()]
        found |= dict.fromkeys(str(value).removeprefix("text:") for value in named if value is not None)
    return list(found)


def available_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def visible_gpus(device: str | None) -> list[str]:
    """Returns the GPUs that runs may use, as `CUDA_VISIBLE_DEVICES` names them.

    Args:
        device: `cpu`: none; None: all that this process sees.
    """
    count = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    named = [name.strip() for name in os.environ.get(VISIBLE_GPUS, "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]


def default_jobs(device: str | None) -> int:
    """Returns how many runs are made at once where nothing else is said: one a GPU, without a GPU one a core.

    Args:
        device: See `visible_gpus`.
    """
    return len(visible_gpus(device)) or available_cores()


def refuse_run_folder(out: Path) -> None:
    """Raises RunFolderError when a comparison is asked to go into a single run's folder, or onto a file."""
    if out.is_file():
        raise RunFolderError(f"{out}: is a file; name a folder with --out")
    if (out / "recipe.yaml").exists():
        raise RunFolderError(f"{out}: holds a single run; choose another folder with --out")
