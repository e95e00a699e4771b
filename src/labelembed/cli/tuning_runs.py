"""Tuning as `tune` and `compare --tuned` make it and tell of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from labelembed.cli.many_runs import cluster_to, until_stopped
from labelembed.cli.results import say_estimate

if TYPE_CHECKING:
    from labelembed.errors import TrainingError
    from labelembed.recipes.schema import Recipe
    from labelembed.runs.comparison_plan import ComparisonPlan
    from labelembed.runs.tuning_plan import TuningPlan

FOLDER = "tuning"
_WIDEST_REASON = 60


def finished_runs(plan: TuningPlan) -> int:
    """Returns how many runs of the trials are done."""
    return sum((folder / "result.json").exists() for *_, folder in plan.runs())


def say_tuning_estimate(plan: TuningPlan, *, jobs: int | None, device: str | None, as_json: bool) -> None:
    """Prints how many runs the trials are and how long they will take."""
    from types import SimpleNamespace

    from labelembed.runs.comparison import default_jobs, visible_gpus

    runs = plan.runs()
    if not runs:
        typer.echo('{"runs": 0}' if as_json else "nothing to tune (nothing was written)")
        return
    how: dict[str, Any] = {"runs": len(runs), "finished": finished_runs(plan)}
    how |= {"jobs": jobs or default_jobs(device), "gpus": len(visible_gpus(device))}
    say_estimate(plan.recipe, **how, as_json=as_json, plan=SimpleNamespace(runs=runs))


def make_tuning(
    plan: TuningPlan, command: str, *, jobs: int | None, cluster: str | None, device: str | None, quiet: bool
) -> tuple[dict[str, Any], TrainingError | None]:
    """Makes the trials with progress shown; the caller has the folder's lock.

    Returns:
        What ``tuning.json`` holds, see `tuning.run_tuning`, and why there is not a chosen trial of every variant.

    Raises:
        ClusterError: When both `jobs` and a cluster are asked for.
        InterruptedTraining: After Ctrl-C, with what is done kept.
    """
    from labelembed.errors import ClusterError
    from labelembed.runs.comparison import default_jobs, files_of_recipes
    from labelembed.runs.display import ComparisonDisplay, reading_shown
    from labelembed.runs.run import cached_data
    from labelembed.runs.training_network import network_for
    from labelembed.runs.tuning import run_tuning

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    for name in plan.left_out:
        typer.echo(f"note: {name} is left out: it differs from another only in what is tuned", err=True)
    with reading_shown(plan.recipe.data["name"], quiet=quiet) as reading:
        data = cached_data(plan.recipe, progress=reading)
    for note in data.notes:
        typer.echo(f"data: {note}", err=True)
    firsts = [plan.recipe_of(variant, {}, plan.seeds[0]) for variant, _ in plan.tuned]
    for recipe in firsts:
        network_for(recipe, data, to_try=True)  # a fault is said once, here, before anything is written
    total, finished = len(plan.runs()), finished_runs(plan)
    if finished and not quiet:
        typer.echo(f"{finished} runs of trials reused", err=True)
    display = ComparisonDisplay(total=total, reused=finished, epochs=plan.recipe.epochs, quiet=quiet)

    def work() -> tuple[dict[str, Any], dict[str, str]]:
        files = files_of_recipes(firsts)
        # No scheduler is asked for where nothing is left to do.
        with cluster_to(cluster if finished < total else None, plan.out, files) as machines, display.watching():
            how: dict[str, Any] = {"cluster": machines, "device": device, "observe": display}
            return run_tuning(plan, fingerprint=data.fingerprint(), jobs=jobs or default_jobs(device), **how)

    about, problems = until_stopped(work, command)
    return about, failure_of(about, problems)


def failure_of(about: dict[str, Any], problems: dict[str, str]) -> TrainingError | None:
    """Returns why there is not a chosen trial of every variant; None where there is."""
    from labelembed.errors import TrainingError

    if problems:
        runs = "1 run" if len(problems) == 1 else f"{len(problems)} runs"
        heading = f"{runs} could not be made; the same command tries again"
        reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in problems.items()]
        return TrainingError("\n".join([heading, *reasons]))
    reasons = [
        f"{one['name']}: {next((trial['message'] for trial in one['trials'] if trial['message']), 'given up')}"
        for one in about["variants"]
        if one["space"] and one["chosen"] is None
    ]
    return TrainingError("\n".join(["no trial has a score", *reasons])) if reasons else None


def tuning_lines(about: dict[str, Any], out: Path) -> list[str]:
    """Returns what `tune` prints: a table of trials for each variant, and what was chosen."""
    lines: list[str] = []
    for variant in about["variants"]:
        if not variant["space"]:
            lines += [f"{variant['name']}: nothing to tune", ""]
            continue
        space = "; ".join(f"{key.removeprefix('objective.')} {text}" for key, text in variant["space"].items())
        of_seeds = f"seed{'s' if len(about['seeds']) > 1 else ''} {', '.join(map(str, about['seeds']))}"
        lines += [f"{variant['name']}: {len(variant['trials'])} trials ({of_seeds}) over {space}"]
        lines += [f"  trial  {about['measure']}  arguments"]
        lines += [_trial_line(trial, about["measure"], variant["chosen"]) for trial in variant["trials"]]
        if variant["chosen"] is not None:
            settings = "".join(f" --set {key}={value}" for key, value in variant["settings"].items())
            lines += [f"  best: {variant['variant']}{settings}"]
        lines += [""]
    return [*lines, f"tuning: {out / 'tuning.json'}    best recipes: {out / 'best'}    table: {out / 'trials.csv'}"]


def _trial_line(trial: dict[str, Any], measure: str, chosen: int | None) -> str:
    score = {"failed": "failed", "pruned": "given up", "open": "not finished"}.get(trial["state"])
    if score is None:
        score = f"{trial['score']:.4f}" if measure.endswith("NLL") else f"{100 * trial['score']:.2f} %"
    arguments = " ".join(f"{key.removeprefix('objective.')}={value}" for key, value in trial["arguments"].items())
    why = f" ({trial['message'].splitlines()[0][:_WIDEST_REASON]})" if trial["message"] else ""
    best = "*" if trial["number"] == chosen else " "
    return f"{best:>2}{trial['number']:>5}  {score:>{len(measure)}}  {arguments or 'as it was'}{why}"


def plan_of_tuning(plan: ComparisonPlan, recipe: Recipe, out: Path, *, trials: int, space: list[str]) -> TuningPlan:
    """Returns the tuning of a comparison's variants, with seeds that are none of its own; see `tuning_plan`.

    Raises:
        RecipeError: When it cannot be, or the baseline would be left out.
    """
    from labelembed.errors import RecipeError
    from labelembed.runs.tuning_plan import plan_tuning

    how: dict[str, Any] = {"trials": trials, "space": space}
    tuning = plan_tuning(recipe, plan.recipe_name, out / FOLDER, variants=plan.variants, taken_seeds=plan.seeds, **how)
    if plan.baseline in tuning.left_out:
        message = f"{plan.baseline} differs from another variant only in what is tuned; name that one"
        raise RecipeError([message], source="--baseline")
    return tuning


def say_both_estimates(
    plan: ComparisonPlan, tuning: TuningPlan, recipe: Recipe, *, jobs: int, gpus: int | None, as_json: bool
) -> None:
    """Prints how many runs trials and comparison are together, and how long they take."""
    runs = [*tuning.runs(), *(run for run in plan.runs if run[0].name not in tuning.left_out)]
    how: dict[str, Any] = {"jobs": jobs, "gpus": gpus, "as_json": as_json, "plan": replace(plan, runs=runs)}
    say_estimate(recipe, runs=len(runs), finished=finished_runs(tuning), **how)


def tuned_plan(
    plan: ComparisonPlan, tuning: TuningPlan, recipe: Recipe, out: Path, command: str, **made_by: Any
) -> ComparisonPlan:
    """Makes the trials and returns the comparison of what they chose; `made_by` is that of `make_tuning`.

    Raises:
        TrainingError: When a variant has no trial with a score, or runs could not be made.
    """
    from labelembed.runs.comparison_plan import plan_runs
    from labelembed.runs.tuning import tuned_variants

    about, failure = make_tuning(tuning, command, **made_by)
    if failure is not None:
        raise failure
    variants = tuned_variants(tuning, about)
    names = {entry["name"]: variant.name for entry, variant in zip(about["variants"], variants, strict=True)}
    for_the_report = [
        {
            **{key: entry[key] for key in ("space", "arguments", "score", "first_score", "rate_at_end")},
            "name": names[entry["name"]],
            "was": entry["name"],
            "trials": len(entry["trials"]),
            "without_score": sum(trial["score"] is None for trial in entry["trials"]),
        }
        for entry in about["variants"]
    ]
    kept = {key: about[key] for key in ("measure", "trials", "seeds", "pruning", "left_out")}
    how: dict[str, Any] = {"baseline": names.get(plan.baseline, plan.baseline), "seeds": plan.seeds}
    how["tuning"] = {"folder": FOLDER, **kept, "variants": for_the_report}
    return plan_runs(recipe, plan.recipe_name, out, variants=variants, **how)
