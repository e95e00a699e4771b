"""The verb `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.many_runs import cluster_to, until_stopped
from labelembed.cli.options import (
    BaselineOption,
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    JobsOption,
    JsonOption,
    ObjectivesOption,
    OverwriteOption,
    QuietOption,
    RecipeArgument,
    SeedsOption,
    SetOption,
    SpaceOption,
    TrackOption,
    out_option,
)
from labelembed.cli.program import verb
from labelembed.cli.results import say_comparison, say_estimate

if TYPE_CHECKING:
    from labelembed.recipes.schema import Recipe
    from labelembed.runs.comparison_plan import ComparisonPlan


@verb(
    "Train",
    "labelembed compare digits-mlp",
    "labelembed compare digits-mlp --objectives one_hot,label_smoothing:smoothing=0.4,label_embedding:preset=paper "
    "--seeds 0-7 --epochs 10",
    "labelembed compare --data reviews.csv --tuned --trials 10 --jobs 2",
)
def compare(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objectives: ObjectivesOption = None,
    seeds: SeedsOption = None,
    baseline: BaselineOption = None,
    out: Annotated[
        Path | None,
        out_option("DIR", "The comparison folder; by default comparisons/RECIPE, of --tuned comparisons/RECIPE-tuned."),
    ] = None,
    overwrite: OverwriteOption = False,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="First tune learning rate, weight decay and arguments of each objective by --trials.",
        ),
    ] = False,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="With --tuned: trials of each objective; by default 10.")
    ] = None,
    space: SpaceOption = None,
    track: TrackOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train several objectives with several seeds and say which is better, and how sure that is."""
    from labelembed.cli.tuning_runs import plan_of_tuning, say_both_estimates, tuned_plan
    from labelembed.errors import ClusterError, RecipeError
    from labelembed.runs.comparison import default_jobs, visible_gpus
    from labelembed.runs.comparison_folder import remove_comparison
    from labelembed.runs.comparison_plan import plan_comparison, refuse_run_folder
    from labelembed.training.cluster import count_workers
    from labelembed.training.run_lock import locked
    from labelembed.training.tracking import tracker_names

    if cluster is not None and jobs is not None:
        raise ClusterError("--jobs: goes with one machine; with --cluster each worker makes one run at a time")
    asked = [option for option, value in {"--trials": trials, "--space": space}.items() if value is not None]
    if asked and not tuned:
        raise RecipeError([f"goes with --tuned; tune alone is `labelembed tune {recipe or 'RECIPE'}`"], source=asked[0])
    trackers = tracker_names(track)
    chosen, name = chosen_recipe(recipe, settings=settings, data=data)
    out = out or Path("comparisons") / (f"{name}-tuned" if tuned else name)
    refuse_run_folder(out)
    what: dict[str, Any] = {"objectives": objectives, "seeds": seeds, "baseline": baseline}
    plan = plan_comparison(chosen, name, out, **what, tuned=tuned, overwrite=overwrite)
    tuning = None
    if tuned:
        how_many = 10 if trials is None else trials
        tuning = plan_of_tuning(plan, chosen, out, trials=how_many, space=space or [])
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
            if overwrite:
                remove_comparison(out)
            plan = tuned_plan(plan, tuning, chosen, out, f"{recipe or name}, --out {out}", **made_by)
        more: dict[str, Any] = {"track": trackers, "overwrite": overwrite and not tuned, "as_json": as_json}
        _compare(plan, chosen, out, f"{recipe or name}, --out {out}", **made_by, **more)


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
    overwrite: bool,
    as_json: bool,
) -> None:
    """Makes the runs of a plan and says what they show; the folder is locked."""
    from labelembed.runs.comparison import files_of, make_runs

    how: dict[str, Any] = {"jobs": jobs, "device": device, "track": track, "quiet": quiet}
    if cluster is not None:
        how["open_cluster"] = lambda: cluster_to(cluster, out, files_of(plan))
    made = until_stopped(lambda: make_runs(plan, chosen, out, overwrite=overwrite, **how), command)
    say_comparison(out, made.failed, anything_new=made.anything_new, as_json=as_json)
