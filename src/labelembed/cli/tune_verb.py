"""The verb `tune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from labelembed.cli.chosen_recipe import chosen_recipe
from labelembed.cli.options import (
    ClusterOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    JobsOption,
    JsonOption,
    ObjectivesOption,
    QuietOption,
    RecipeArgument,
    SeedsOption,
    SetOption,
    SpaceOption,
    out_option,
)
from labelembed.cli.program import verb


@verb(
    "Train",
    "labelembed tune digits-mlp --objectives label_smoothing,label_embedding --trials 10",
    "labelembed tune digits-mlp --space objective.smoothing=0.05:0.6 --space optimizer.learning_rate=1e-4:1e-1:log "
    "--out tuning/wider",
)
def tune(
    recipe: RecipeArgument = None,
    data: DataOption = None,
    settings: SetOption = None,
    objectives: ObjectivesOption = None,
    trials: Annotated[int, typer.Option("--trials", metavar="N", help="Trials of each objective.")] = 10,
    space: SpaceOption = None,
    seeds: SeedsOption = None,
    prune: Annotated[
        Literal["none", "median"],
        typer.Option("--prune", help="`median` stops runs that are worse than the median of the trials before."),
    ] = "none",
    out: Annotated[Path | None, out_option("DIR", "The tuning folder; by default tuning/RECIPE.")] = None,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    dry_run: DryRunOption = False,
    device: DeviceOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find a good learning rate, weight decay and arguments of each objective on the validation set.

    Each trial has one seed that `compare` does not use, or those of --seeds. The recipe's values are the first trial.
    """
    from labelembed.cli.tuning_runs import make_tuning, say_tuning_estimate, tuning_lines
    from labelembed.recipes.variants import seeds_of, variants_of
    from labelembed.runs.tuning_plan import plan_tuning
    from labelembed.training.run_lock import locked

    chosen, name = chosen_recipe(recipe, settings=settings, data=data)
    plan = plan_tuning(
        chosen,
        name,
        out or Path("tuning") / name,
        variants=variants_of(chosen, objectives),
        trials=trials,
        seeds=seeds,
        taken_seeds=seeds_of(chosen, None),
        space=space or [],
        prune=prune == "median",
    )
    if dry_run:
        say_tuning_estimate(plan, jobs=jobs, device=device, as_json=as_json)
        return
    command = f"{recipe or name}, --out {plan.out}"
    with locked(plan.out, doing="made"):
        about, failure = make_tuning(plan, command, jobs=jobs, cluster=cluster, device=device, quiet=quiet)
    typer.echo(json.dumps(about, allow_nan=False) if as_json else "\n".join(tuning_lines(about, plan.out)))
    if failure is not None:
        raise failure
