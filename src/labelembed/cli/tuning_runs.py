"""Tuning as `tune` and `compare --tuned` make it and tell of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from labelembed.cli.many_runs import cluster_to, until_stopped
from labelembed.cli.results import say_estimate

if TYPE_CHECKING:
    from labelembed.errors import TrainingError
    from labelembed.tuning import Outcome, TuningPlan

_WIDEST_REASON = 60


def finished_runs(plan: TuningPlan) -> int:
    """Returns how many runs of the trials are done."""
    return sum(1 for _ in (plan.out / "trials").glob("*/*/*/result.json"))


def say_tuning_estimate(plan: TuningPlan, *, jobs: int | None, device: str | None, as_json: bool) -> None:
    """Prints how many runs the trials are and how long they will take."""
    from types import SimpleNamespace

    from labelembed.runs.comparison import default_jobs, visible_gpus
    from labelembed.tuning.study import require_optuna

    require_optuna()
    runs = plan.estimated_runs()
    if not runs:
        typer.echo('{"runs": 0}' if as_json else "nothing to tune (nothing was written)")
        return
    how: dict[str, Any] = {"runs": len(runs), "finished": min(finished_runs(plan), len(runs))}
    how |= {"jobs": jobs or default_jobs(device), "gpus": len(visible_gpus(device))}
    say_estimate(plan.recipe, **how, as_json=as_json, plan=SimpleNamespace(runs=runs))


def make_tuning(
    plan: TuningPlan, command: str, *, jobs: int | None, cluster: str | None, device: str | None, quiet: bool
) -> tuple[list[Outcome], dict[str, str]]:
    """Makes the trials with progress shown; the caller has the folder's lock. See `tuning.run_tuning`.

    Raises:
        ClusterError: When both `jobs` and a cluster are asked for.
        InterruptedTraining: After Ctrl-C, with what is done kept.
    """
    from labelembed.errors import ClusterError
    from labelembed.runs.comparison import default_jobs, files_of_recipes
    from labelembed.runs.display import ComparisonDisplay, reading_shown
    from labelembed.runs.run import cached_data
    from labelembed.runs.training_network import network_for
    from labelembed.tuning import run_tuning
    from labelembed.tuning.study import require_optuna

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    require_optuna()
    for variant in plan.left_out:
        typer.echo(f"note: {variant.name} is left out: it differs from another only in what is tuned", err=True)
    with reading_shown(plan.recipe.data["name"], quiet=quiet) as reading:
        rows = cached_data(plan.recipe, progress=reading)
    for note in rows.notes:
        typer.echo(f"data: {note}", err=True)
    firsts = [plan.recipe_of(tuned, {}, plan.seeds[0]) for tuned in plan.with_space]
    for recipe in firsts:
        network_for(recipe, rows, to_try=True)  # a fault is said once, here, before anything is written
    total, finished = len(plan.estimated_runs()), finished_runs(plan)
    if finished and not quiet:
        typer.echo(f"{finished} runs of trials reused", err=True)
    display = ComparisonDisplay(total=total, reused=min(finished, total), epochs=plan.recipe.epochs, quiet=quiet)

    def work() -> tuple[list[Outcome], dict[str, str]]:
        files = files_of_recipes(firsts)
        # No scheduler is asked for where nothing is left to do.
        with cluster_to(cluster if finished < total else None, plan.out, files) as machines, display.watching():
            how: dict[str, Any] = {"cluster": machines, "device": device, "observe": display, "has_lock": True}
            return run_tuning(plan, fingerprint=rows.fingerprint(), jobs=jobs or default_jobs(device), **how)

    return until_stopped(work, command)


def tuning_lines(about: dict[str, Any], out: Path) -> list[str]:
    """Returns what `tune` prints: a table of trials for each variant, and what was chosen."""
    lines: list[str] = []
    for variant in about["variants"]:
        if not variant["space"]:
            lines += [f"{variant['name']}: nothing to tune", ""]
            continue
        space = "; ".join(f"{key.removeprefix('objective.')} {text}" for key, text in variant["space"].items())
        seeds = ", ".join(map(str, about["seeds"]))
        of_seeds = f"seed{'s' if len(about['seeds']) > 1 else ''} {seeds}"
        lines += [f"{variant['name']}: {len(variant['trials'])} trials ({of_seeds}) over {space}"]
        lines += [f"  trial  {about['measure']}  arguments"]
        lines += [_trial_line(trial, about["measure"], variant["chosen"]) for trial in variant["trials"]]
        if variant["chosen"] is not None:
            settings = "".join(f" --set {key}={value}" for key, value in variant["settings"].items())
            lines += [f"  best: {variant['variant']}{settings}"]
        lines += [""]
    return [*lines, f"tuning: {out / 'tuning.json'}    best recipes: {out / 'best'}    table: {out / 'trials.csv'}"]


def _trial_line(trial: dict[str, Any], measure: str, chosen: int | None) -> str:
    score = _score_text(trial, measure).rjust(len(measure))
    arguments = " ".join(f"{key.removeprefix('objective.')}={value}" for key, value in trial["arguments"].items())
    arguments = arguments or "as it was"
    if trial["same_as"] is not None:
        arguments += f" (the same as trial {trial['same_as']})"
    if trial["message"]:
        arguments += f" ({trial['message'].splitlines()[0][:_WIDEST_REASON]})"
    return f"{'*' if trial['number'] == chosen else ' ':>2}{trial['number']:>5}  {score}  {arguments}"


def _score_text(trial: dict[str, Any], measure: str) -> str:
    words = {"failed": "failed", "pruned": "given up", "open": "not finished"}
    if trial["score"] is None:
        return words[trial["state"]]
    return f"{trial['score']:.4f}" if measure.endswith("NLL") else f"{100 * trial['score']:.2f} %"


def tuning_failure(about: dict[str, Any], problems: dict[str, str]) -> TrainingError | None:
    """Returns why there is not a chosen trial of every variant; None where there is."""
    from labelembed.errors import TrainingError

    if problems:
        runs = "1 run" if len(problems) == 1 else f"{len(problems)} runs"
        heading = f"{runs} could not be made; the same command tries again"
        reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in problems.items()]
        return TrainingError("\n".join([heading, *reasons]))
    without = [variant for variant in about["variants"] if variant["space"] and variant["chosen"] is None]
    if without:
        reasons = [
            f"{one['name']}: {next((trial['message'] for trial in one['trials'] if trial['message']), 'given up')}"
            for one in without
        ]
        return TrainingError("\n".join(["no trial has a score", *reasons]))
    return None
