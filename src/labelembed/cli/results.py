"""What the verbs that train say when they are done, or would say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer


def say_comparison(out: Path, failed: dict[str, str], *, anything_new: bool, as_json: bool) -> None:
    """Writes table and report of a comparison and prints what it shows; raises where runs have failed."""
    from labelembed import report
    from labelembed.errors import TrainingError

    comparison, rows = report.write_comparison(out, anew=anything_new)
    if as_json:
        typer.echo(json.dumps(report.rows_as_json(rows), allow_nan=False))
    else:
        typer.echo("\n".join(report.verdict(comparison, rows)) + "\n")
        report.print_comparison(rows)
        for line in report.tuning_lines(comparison):
            typer.echo(f"Tuned: {line}")
        typer.echo(f"report: {out / 'report.html'}    table: {out / 'comparison.csv'}")
    # A run that could not even begin has left no word in its folder.
    failed = failed | {f"{row.name} seed {seed}": why for row in rows for seed, why in row.failed.items()}
    if failed:
        heading = f"{len(failed)} run{'s' if len(failed) != 1 else ''} failed; the same command tries again"
        reasons = [f"{name}: {(why.splitlines() or ['no reason'])[0]}" for name, why in failed.items()]
        raise TrainingError("\n".join([heading, *reasons]))


def say_estimate(
    recipe: Any, *, runs: int, finished: int, jobs: int, as_json: bool, plan: Any = None, gpus: int | None = None
) -> None:
    """Prints how many runs are to be made, how long they will take, and on how many GPUs (None: not known)."""
    from labelembed.runs.comparison_plan import ComparisonPlan
    from labelembed.runs.estimate import seconds_of_run
    from labelembed.runs.progress_text import duration

    todo = [run for _, _, run, folder in plan.runs] if plan is not None else [recipe]
    by_objective: dict[str, float] = {}
    for run in todo:
        key = json.dumps(run.objective, default=str)
        if key not in by_objective:
            by_objective[key] = seconds_of_run(run)
    each = [by_objective[json.dumps(run.objective, default=str)] for run in todo]
    half_done = plan.half_done() if isinstance(plan, ComparisonPlan) and isinstance(recipe.epochs, int) else {}
    left = runs - finished - sum(half_done.values()) / (recipe.epochs if half_done else 1)
    seconds = sum(each) * left / runs / jobs
    if as_json:
        told = {"runs": runs, "finished": finished, "jobs": jobs, "seconds": round(seconds, 1)}
        typer.echo(json.dumps(told if gpus is None else told | {"gpus": gpus}))
        return
    reused = f", {finished} of them finished already" if finished else ""
    at_once = f" with {jobs} at once" if jobs > 1 else ""
    if gpus and jobs == 1:
        at_once = ", one at a time on a GPU"
    elif gpus:
        at_once += f", {'one' if jobs <= gpus else f'up to {-(-jobs // gpus)}'} on a GPU"
    typer.echo(
        f"{runs} run{'s' if runs != 1 else ''}{reused}; about {duration(seconds)}{at_once} (nothing was written)"
    )
