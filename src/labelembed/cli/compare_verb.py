"""The verb `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.many_runs import cluster_to, until_stopped
from labelembed.cli.options import (
    CalibrationOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    FittingRecipeArgument,
    JobsOption,
    JsonOption,
    PruneOption,
    QuietOption,
    SetOption,
    SpaceOption,
    TrackOption,
)
from labelembed.cli.results import say_comparison, say_estimate

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe
    from labelembed.runs.comparison import ComparisonPlan


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(
        epilog="Example: labelembed compare digits-mlp "
        "--objectives one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper:temperature=3 --seeds 5"
    )(compare)


def compare(
    recipe: FittingRecipeArgument = None,
    objectives: Annotated[
        str | None,
        typer.Option(
            "--objectives",
            metavar="NAME[:KEY=VALUE...],...",
            help="Variants to compare, each a row; by default the recipe's own.",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="N|S1,S2,...",
            help="How many seeds, from the recipe's `seed` (0) on, or which (one: 5,).",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="VARIANT", help="What the others are compared with.")
    ] = None,
    data: DataOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The comparison folder; by default comparisons/RECIPE."),
    ] = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="First tune learning rate, weight decay and arguments of every variant, by equally many trials.",
        ),
    ] = False,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="Of --tuned: trials of each variant; 10.")
    ] = None,
    trial_seeds: Annotated[
        str | None,
        typer.Option("--trial-seeds", metavar="N|S1,S2,...", help="Of --tuned: none of the comparison's; one."),
    ] = None,
    space: SpaceOption = None,
    prune: PruneOption = "none",
    no_calibration: CalibrationOption = False,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train several objectives with several seeds and say which is better, and how sure that is."""
    from labelembed.cli.tuning_runs import plan_of_tuning, say_both_estimates, tuned_plan
    from labelembed.errors import ClusterError, RecipeError
    from labelembed.runs.comparison import (
        default_jobs,
        plan_comparison,
        refuse_run_folder,
        visible_gpus,
    )
    from labelembed.training.cluster import count_workers
    from labelembed.training.run_lock import locked
    from labelembed.training.tracking import tracker_names

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    only_tuned = {"--trials": trials, "--trial-seeds": trial_seeds, "--space": space}
    only_tuned |= {"--prune": prune if prune != "none" else None}
    asked = [option for option, value in only_tuned.items() if value is not None]
    if asked and not tuned:
        raise RecipeError([f"goes with --tuned; tune alone is `labelembed tune {recipe or 'RECIPE'}`"], source=asked[0])
    trackers = tracker_names(track)
    settings = [*(settings or []), *(["calibration=false"] if no_calibration else [])]
    chosen, name = chosen_recipe(recipe, settings=settings, data=data)
    out = out or Path("comparisons") / name
    refuse_run_folder(out)
    plan = plan_comparison(chosen, name, out, objectives=objectives, seeds=seeds, baseline=baseline)
    tuning = None
    if tuned:
        how_many = 10 if trials is None else trials
        tuning = plan_of_tuning(plan, chosen, out, trials=how_many, seeds=trial_seeds, space=space or [], prune=prune)
    if dry_run:
        at_once = jobs or (max(1, count_workers(cluster)) if cluster is not None else default_jobs(device))
        gpus = None if cluster is not None else len(visible_gpus(device))
        if tuning is not None:
            say_both_estimates(plan, tuning, chosen, jobs=at_once, gpus=gpus, as_json=as_json)
            return
        finished, runs = len(plan.finished()), len(plan.runs)
        jobs = min(at_once, max(1, runs - finished))
        say_estimate(chosen, runs=runs, finished=finished, jobs=jobs, gpus=gpus, as_json=as_json, plan=plan)
        return
    made_by: dict[str, Any] = {"jobs": jobs, "cluster": cluster, "device": device, "quiet": quiet}
    with locked(out, doing="made"):  # the trials of its tuning lie in it
        if tuning is not None:
            plan = tuned_plan(plan, tuning, chosen, out, f"{recipe or name}, --out {out}", **made_by)
        _compare(plan, chosen, out, f"{recipe or name}, --out {out}", **made_by, track=trackers, as_json=as_json)


def _compare(
    plan: ComparisonPlan,
    chosen: Recipe,
    out: Path,
    command: str,
    *,
    jobs: int | None,
    cluster: str | None,
    device: str | None,
    quiet: bool,
    track: list[str],
    as_json: bool,
) -> None:
    """Makes the runs of a plan and says what they show; the folder is locked."""
    from labelembed.cli.display import ComparisonDisplay, reading_shown
    from labelembed.runs.comparison import default_jobs, files_of, run_comparison, try_networks
    from labelembed.runs.run import cached_data
    from labelembed.training.tracking import track_ended

    finished, runs = len(plan.finished()), len(plan.runs)
    jobs = min(jobs or default_jobs(device), max(1, runs - finished))
    if finished < runs:
        with reading_shown(chosen.data["name"], quiet=quiet) as reading:
            rows = cached_data(chosen, progress=reading)
        for note in rows.notes:
            typer.echo(f"data: {note}", err=True)
        try_networks(plan, rows)  # a fault is said once, here, before anything is written
    if finished and not quiet:
        typer.echo(f"{finished} of {runs} runs reused", err=True)
    if finished < runs:
        display = ComparisonDisplay(total=runs, reused=finished, epochs=chosen.epochs, quiet=quiet)

        def work() -> dict[str, str]:
            with cluster_to(cluster, out, files_of(plan)) as machines, display.watching():
                how: dict[str, Any] = {
                    "cluster": machines,
                    "device": device,
                    "track": track,
                    "has_lock": True,
                }
                return run_comparison(plan, out, jobs=jobs, observe=display, **how)

        failed = until_stopped(work, command)
    else:
        failed = run_comparison(plan, out, jobs=jobs, device=device, has_lock=True)
    for done in plan.finished():
        track_ended(done, track, device=device)  # of runs that were made without it
    say_comparison(out, failed, anything_new=finished < runs, as_json=as_json)
